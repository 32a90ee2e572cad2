"""The phantom study: its commands are ones that ctsynth takes, and its page shows what was scored."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from ctsynth.cli.app import app
from ctsynth.methods.base import method_names

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "phantom-study" / "study.sh"
RECORDER = """#!{python} -S
import json, sys
with open({log!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit({fails!r} in sys.argv)
"""


def plan(tmp_path, size, fails=None):
    """The commands that the study calls, and how it ends."""
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir(exist_ok=True)
    recorder = tmp_path / "bin" / "ctsynth"
    recorder.write_text(RECORDER.format(python=sys.executable, log=str(log), fails=fails))
    recorder.chmod(0o755)
    path = f"{recorder.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [SCRIPT, size, tmp_path / "study"], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    return [json.loads(line) for line in log.read_text().splitlines()], done


def parsed(words):
    """What ctsynth understands of a command; it refuses what it does not know."""
    group = typer.main.get_command(app)
    name, command, rest = group.resolve_command(group.make_context("ctsynth", list(words)), list(words))
    return command.make_context(name, rest).params


@pytest.mark.parametrize(("size", "batch"), [("cpu", 8), ("gpu", 16)])
def test_all_methods_train_alike_and_are_scored_at_the_papers_ratios(tmp_path, size, batch):
    commands, done = plan(tmp_path, size)
    assert done.returncode == 0, done.stderr
    assert [words[0] for words in commands[:2]] == ["phantom", "preprocess"]
    assert commands[-1][0] == "report"
    trained, scored = ([words for words in commands if words[0] == name] for name in ("train", "score"))
    (segmenter,) = (parsed(words) for words in commands if words[0] == "train-segmenter")
    runs = [parsed(words) for words in trained]
    assert sorted(run["method"] for run in runs) == sorted(method_names())
    assert {(run["batch_size"], run["preset"]) for run in runs} == {(batch, runs[0]["preset"])}
    (iterations,) = {run["iterations"] for run in runs}
    for words in scored:
        found = parsed(words)
        steps = [int(step) for step in found["checkpoint"].split(",")]
        assert [step / iterations for step in steps] == pytest.approx([25 / 150, 50 / 150, 100 / 150, 1])
        assert all(step % run["save_every"] == step % run["keep_every"] == 0 for step in steps for run in runs)
        assert found["segmenter"] == segmenter["out"].as_posix()
    assert sorted(words[1] for words in scored) == sorted(run["out"].as_posix() for run in runs)
    assert {Path(word).parts[1] for word in commands[-1][1:-2]} == set(method_names())


def test_a_training_that_fails_ends_the_study_before_anything_is_scored(tmp_path):
    commands, done = plan(tmp_path, "cpu", fails="spade")
    assert done.returncode != 0
    assert "train spade: failed, see logs/train-spade.log" in done.stdout
    assert {words[0] for words in commands} == {"phantom", "preprocess", "train-segmenter", "train"}
    assert len([words for words in commands if words[0] == "train"]) == len(method_names())


def test_the_tables_of_the_results_are_made_of_the_rows_beside_them(tmp_path, monkeypatch):
    for name in ("results.md", "results.csv"):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    page = tmp_path / "results.md"
    page.write_text(
        re.sub(r"(<!-- table: .* -->\n)[^<]*", r"\1", page.read_text(encoding="utf-8")), encoding="utf-8"
    )
    monkeypatch.setattr(sys, "argv", ["tables.py", str(tmp_path / "results.csv"), str(page)])
    runpy.run_path(str(SCRIPT.with_name("tables.py")), run_name="__main__")
    for name in ("results.md", "results.csv"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").count("| edm-volume |") == 7


def test_the_pictures_of_the_results_are_small():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    pictures = [ROOT / "docs" / name for name in re.findall(r"!\[[^]]+\]\((\S+)\)", page)]
    assert len(pictures) == 2
    assert max(path.stat().st_size for path in pictures) < 300_000
