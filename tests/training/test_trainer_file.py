"""trainer.pt and metrics.jsonl as no run leaves them: named, passed over, and the run goes on from before."""

import json
import logging
import re
import shutil

import pytest
import torch
from small_cases import make_small_case
from small_runs import fit, weights
from small_stores import both_splits

from ctsynth import history
from ctsynth.errors import DataError
from ctsynth.training import checkpoint, trainer_file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 6 steps, with a checkpoint each two of them."""
    folder = tmp_path_factory.mktemp("made")
    store = both_splits(folder / "out", make_small_case)
    return store, fit(store, folder / "run", keep_every=2)


@pytest.fixture
def run(made, tmp_path):
    return made[0], shutil.copytree(made[1], tmp_path / "run")


def put(content, *keys, value):
    """Another value at a place in nested dicts; None takes it out."""
    *way, last = keys
    for key in way:
        content = content[key]
    if value is None:
        del content[last]
    else:
        content[last] = value


def forget_hashes(path):
    """A config.json as early checkpoints have it, so that the content itself is looked at."""
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(content | {"sha256": {}}))


MOMENTS = ("optimizers", "denoiser", "state", 0)
EDITS = {
    "no optimizers": (("optimizers",), None, "optimizers is missing"),
    "optimizers null": (("optimizers",), [], r"optimizers is \[\], wanted an object"),
    "another phase": (("optimizers",), {"generator": {"state": {}}}, r"optimizers\.denoiser is missing"),
    "step -5": (("step",), -5, r"step is -5, wanted a whole number within \[0"),
    "step 4": (("step",), 4, "its step is 4, wanted 6"),
    "step 6.0": (("step",), 6.0, "step is 6.0, wanted a whole number"),
    "no state": ((*MOMENTS[:-1],), None, "state is missing"),
    "state of no parameter": ((*MOMENTS[:-1], 10**6), {"step": torch.ones(())}, r"state\.1000000: there are"),
    "a state of one tensor": (
        MOMENTS,
        {"exp_avg": torch.ones(3)},
        "holds exp_avg, wanted step, exp_avg, ",
    ),
    "moments of another shape": ((*MOMENTS, "exp_avg"), torch.ones(3), r"exp_avg is float32 of shape \(3,\)"),
    "moments of integers": ((*MOMENTS, "step"), torch.ones((), dtype=torch.int64), "step is int64"),
    "a step of -1": ((*MOMENTS, "step"), torch.tensor(-1.0), "step is -1, wanted 0 or more"),
    "a step of nan": ((*MOMENTS, "step"), torch.tensor(float("nan")), "step is nan"),
    "a log of text": (("log",), "x", "log is 'x', wanted an object"),
    "sums without ranks": (("log", "sums"), {"loss": torch.ones(())}, r"log\.sums\.loss is float32 of shape \(\)"),
    "sums of no rank": (("log", "sums"), {"loss": torch.ones(0)}, r"log\.sums\.loss is float32 of shape \(0,\)"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_trainer_file_of_another_form_is_passed_over_by_name(edit, run, made, caplog):
    keys, value, message = EDITS[edit]
    store, folder = run
    path = checkpoint.path_of(folder, 6)
    content = torch.load(path / "trainer.pt", weights_only=True)
    put(content, *keys, value=value)
    torch.save(content, path / "trainer.pt")
    forget_hashes(path)
    with caplog.at_level(logging.WARNING, "ctsynth"):
        fit(store, folder, keep_every=2)
    (warned,) = caplog.records
    assert warned.getMessage().startswith(f"{path / 'trainer.pt'}: ")
    assert re.search(message, warned.getMessage())
    assert weights(folder, 6) == weights(made[1], 6)


@pytest.mark.parametrize("content", [[], None, 3, torch.ones(2), {"step": 6}], ids=str)
def test_a_trainer_file_of_anything_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "trainer.pt")
    with pytest.raises(DataError, match=r"trainer\.pt: "):
        trainer_file.load(tmp_path / "trainer.pt", 6, {})


ROW = {"step": 2, "loss": 0.5}
ODD = [
    b"\x93NUMPY\x01\0v\0" * 20,
    b"[1, 2]",
    b"null",
    b'{"loss": 1}',
    b'{"step": "2", "loss": 1}',
    b'{"step": -2, "loss": 1}',
    b'{"step": 1e3, "loss": 1}',
    b'{"step": 2, "loss": NaN}',
    b'{"step": 2, "loss": 1e300}',
    b'{"step": 2, "loss": [1]}',
    b"[" * 100_000,
    b'{"step": 2, "lo',
    b"\xff\xfe",
    b"",
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:24].decode("latin1"))
def test_a_line_of_metrics_that_is_no_row_is_left_out_and_counted(odd, tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    line = json.dumps(ROW).encode()
    path.write_bytes(b"\n".join([line, odd, line, b""]))
    with caplog.at_level(logging.WARNING, "ctsynth"):
        assert history.rows(path) == [ROW, ROW]
    assert caplog.messages == [f"{path}: 1 of its 3 lines are no rows: left out"]


def test_an_unfinished_last_line_is_left_out_without_a_warning(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    assert history.rows(path) == []
    path.write_text(json.dumps(ROW) + '\n{"step": 4, "lo')
    assert history.rows(path) == [ROW]
    assert not caplog.records


@pytest.mark.parametrize("content", [b"\0" * 4096, b"\xff\xfe\n" * 9, b'{"step": {}}\n', b"[" * 100_000])
def test_a_run_continues_with_a_binary_or_odd_metrics_file(content, run):
    store, folder = run
    (folder / "metrics.jsonl").write_bytes(content)
    fit(store, folder, iterations=8)
    assert [row["step"] for row in history.rows(folder / "metrics.jsonl")] == [8]
