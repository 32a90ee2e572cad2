"""Mutations, the judge of what comes of them, the watch over what is touched. More: ``python -m tests.fuzz``."""

import subprocess
import sys
import warnings
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fuzz.__main__ import summary
from fuzz.attempts import DONE, REFUSED, judge
from fuzz.mutations import mutate
from fuzz.targets import TARGETS, Target
from fuzz.worker import attempts

from ctsynth.errors import DataError

TESTS = Path(__file__).parent


def fails(error):
    def read(_):
        raise error

    return read


def warns(_):
    warnings.warn("a line of Python's on stderr", stacklevel=1)


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda _: None, DONE),
        (fails(DataError("x.nii: what is wrong with it")), REFUSED),
        (fails(PermissionError(13, "Permission denied", "x.nii")), REFUSED),
        (fails(KeyError("labels")), "bug"),
        (fails(MemoryError()), "memory"),
        (lambda _: np.empty(1 << 60, np.uint8), "memory"),
        (warns, "warning"),
    ],
)
def test_a_reader_is_judged_as_the_command_line_would(read, outcome, tmp_path):
    assert judge(Target(share=1, files=(), read=read), tmp_path, seconds=10)[0] == outcome


def test_a_reader_that_does_not_end_is_slow(tmp_path):
    def read(_):
        while True:
            pass

    assert judge(Target(share=1, files=(), read=read), tmp_path, seconds=0.1)[0] == "slow"


@pytest.mark.parametrize("words", [("score", "{file}", "--data", "{file}"), ("weights", "import", "{file}")])
def test_a_refusing_command_prints_the_error(words, tmp_path):
    outcome, said = judge(Target(share=1, files=(), words=words), tmp_path / "gone", seconds=10)
    assert outcome == REFUSED
    assert "gone" in said


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.toml", "latest"])
def test_a_mutation_is_a_function_of_seed_and_index(name):
    content = b'{"a": [1, 2, {"b": "text"}], "c": null}\n'

    def mutated(seed):
        return [mutate(Random(f"{seed}/{index}"), name, content) for index in range(200)]

    assert mutated(0) == mutated(0)
    assert mutated(0) != mutated(1)
    assert len(set(mutated(0))) > 50


def test_the_watch_sees_files_written_outside_and_processes_started(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "in").write_text("")
    code = f"""
import os, pathlib, pickle, shutil, subprocess, sys
sys.path.insert(0, {str(TESTS)!r})
from fuzz.watch import Watch

os.chdir({str(tmp_path)!r})
watch = Watch(pathlib.Path("out"))
inside = [lambda: open("out/x", "w").close(), lambda: os.mkdir("out/y"), lambda: open("in").close(),
          lambda: os.replace("out/x", "out/y/x"), lambda: shutil.rmtree("out/y"), lambda: os.listdir(".")]
outside = [lambda: open("x", "w").close(), lambda: os.mkdir("y"), lambda: open("out/../x", "a").close(),
           lambda: os.replace("x", "out/x"), lambda: os.replace("out/x", "y/x"), lambda: shutil.rmtree("y"),
           lambda: os.remove("in"), lambda: os.symlink("..", "out/z"), lambda: open("out/z/x", "w").close(),
           lambda: os.system("true"), lambda: subprocess.run(["true"]),
           lambda: pickle.loads(pickle.dumps(os.system))]
for act in inside + outside:
    with watch.on() as seen:
        act()
    print(len(seen) > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 6 + ["True"] * 7 + ["False"] + ["True"] * 4


def test_valid_files_are_read_and_two_thousand_mutated_ones_are_read_or_refused():
    made = list(attempts(seed=0, indices=range(-len(TARGETS), 2000)))
    wrong = [one for one in made if not one.is_good]
    assert not wrong, summary(wrong)
    assert {one.target for one in made if one.index < 0 and one.outcome == DONE} == set(TARGETS)
