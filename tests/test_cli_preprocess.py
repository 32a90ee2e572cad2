import json
import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from ctsynth.cli import console
from ctsynth.cli.app import app
from ctsynth.labels import AMOS22


@pytest.fixture
def run():
    """Runs ``ctsynth preprocess`` and gives its exit code, stdout and stderr."""

    def invoke(*arguments):
        result = CliRunner().invoke(app, ["preprocess", *map(str, arguments)], env={"NO_COLOR": "1"})
        return result.exit_code, result.stdout, result.stderr

    return invoke


def test_the_real_ct_in_a_table_that_says_that_the_paper_counts_differ(run, real_ct, tmp_path):
    code, output, _ = run(real_ct, tmp_path / "out", "--workers", 1)
    assert code == 0
    rows = [line.split("│") for line in output.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows]
    assert cells[:2] == [["train", "1", "30", "26,069"], ["test", "1", "20", "6,559"]]
    assert "label set amos22" in output
    masks = [np.load(path) for path in sorted((tmp_path / "out").rglob("mask.npy"), reverse=True)]
    counts = [np.bincount(mask.ravel(), minlength=17) for mask in masks]
    there = [n for n in AMOS22.names if counts[0][n] or counts[1][n]]
    assert cells[2:] == [[str(n), AMOS22.names[n], *(f"{count[n]:,}" for count in counts)] for n in there]
    assert "classes without a voxel: esophagus, urinary_bladder, prostate" in output
    assert "slices differ from the paper's" in output
    assert max(map(len, output.splitlines()[:20])) <= 80


def test_phantoms_are_not_compared_with_the_papers_slices(run, small_amos, tmp_path):
    source = small_amos(1, 1)
    (source / "dataset.json").write_text('{"phantom": true}')
    code, output, error = run(source, tmp_path / "out", "--size", 16, "--workers", 1)
    assert (code, "paper" in output) == (0, False), error


def test_json_is_one_object_on_stdout(run, small_amos, tmp_path):
    code, output, _ = run(
        small_amos(3, 2), tmp_path / "out", "--size", 16, "--workers", 1, "--test-subjects", 1, "--json"
    )
    content = json.loads(output)
    assert code == 0
    assert content["splits"]["train"] == {"subjects": 3, "slices": 18, "paper_slices": 26069}
    assert content["splits"]["test"] == {"subjects": 1, "slices": 6, "paper_slices": 6559}
    assert (content["skipped_mr"], content["left_out"], content["made"], content["broken"]) == (2, 1, 4, {})
    assert content["test_subjects"] == ["amos_0101"]
    assert content["labels"] == "amos22"
    assert content["voxels"]["liver"]["train"] == 3 * content["voxels"]["liver"]["test"] > 0
    assert content["voxels"]["pancreas"] == {"train": 0, "test": 0}
    assert content["unmatched"] == {}


def test_mr_and_subjects_not_made_yet_are_counted_in_the_summary(run, small_amos, tmp_path):
    _, output, _ = run(small_amos(3, 2), tmp_path / "out", "--size", 16, "--workers", 1, "--shard", "1/2")
    assert "2 MR subjects" in output
    assert "2 subjects not made yet" in output


def test_user_folders_are_not_compared_with_the_paper(run, small_amos, tmp_path):
    folders = ("--images", "imagesTr", "--labels", "labelsTr", "--test-fraction", 0.5)
    code, output, _ = run(small_amos(4, 0), tmp_path / "out", *folders, "--size", 16, "--workers", 1)
    assert code == 0
    assert "paper" not in output


def test_a_broken_subject_exits_with_1_the_summary_and_one_error(run, small_amos, tmp_path):
    source = small_amos(2, 1)
    (source / "labelsTr" / "amos_0002.nii.gz").write_bytes(b"")
    code, output, error = run(source, tmp_path / "out", "--size", 16, "--workers", 1)
    assert code == 1
    assert "1 broken" in output
    assert "1 of 3 subjects could not be made" in error
    assert "amos_0002.nii.gz: the file is empty" in error
    assert "hint:" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--shard", "0/2"], "wanted I/N with I from 1 to N"),
        (["--shard", "3/2"], "wanted I/N"),
        (["--shard", "one"], "wanted I/N"),
        (["--label-set", "amos23"], "no label set is called 'amos23'"),
        (["--label-set", "dataset"], "amos: no dataset.json that names labels"),
        (["--unmatched", "air"], "air"),
        (["--width", "0"], "a width above 0"),
        (["--images", "ct"], "belong together"),
        (["--split", "none.json"], "none.json: no such file"),
        (["--split", "x.json", "--test-fraction", "0.5"], "exclude each other"),
    ],
)
def test_invalid_arguments_exit_with_2_and_write_nothing(arguments, output, run, small_amos, tmp_path):
    code, out, error = run(small_amos(1, 1), tmp_path / "out", *arguments)
    assert (code, out) == (2, "")
    assert output in error
    assert not (tmp_path / "out").exists()


def test_a_missing_source_exits_with_2(run, tmp_path):
    code, _, error = run(tmp_path / "amos", tmp_path / "out")
    assert code == 2
    assert "amos: no such folder" in error


@pytest.mark.parametrize(("test", "is_warned"), [(0, True), (1, False)])
def test_a_missing_test_split_is_warned_of(test, is_warned, run, small_amos, tmp_path):
    code, _, error = run(small_amos(2, test), tmp_path / "out", "--size", 16, "--workers", 1)
    assert code == 0
    assert ("warning: no test subjects: sample --data and score need some" in error) is is_warned


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_from_the_cluster_exits_with_75_and_the_next_run_continues(
    number, run, small_amos, tmp_path, monkeypatch
):
    @contextmanager
    def stopped_after_two(*_):
        yield lambda done, note="": os.kill(os.getpid(), number) if done == 2 else None

    source = small_amos(3, 1)
    with monkeypatch.context() as patch:
        patch.setattr(console, "progress", stopped_after_two)
        code, output, error = run(source, tmp_path / "out", "--size", 16, "--workers", 1)
    assert (code, output) == (75, "")
    assert f"stopped by {number.name}" in error
    code, output, _ = run(source, tmp_path / "out", "--size", 16, "--workers", 1, "--json")
    assert code == 0
    assert (json.loads(output)["made"], json.loads(output)["kept"]) == (2, 2)
