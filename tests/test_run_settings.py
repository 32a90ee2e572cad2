"""A run again by its config.json, its curves for TensorBoard, and which checkpoints stay."""

import json
from pathlib import Path

import pytest
from small_runs import ctsynth, settings, weights
from small_stores import both_splits

RUN = Path("runs/ddpm-concat")


@pytest.fixture
def folder(tmp_path, small_case, monkeypatch):
    both_splits(tmp_path / "out", small_case)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_config_of_a_run_trains_it_again(folder):
    words = settings()
    del words[words.index("--iterations") : words.index("--iterations") + 2]
    first = ctsynth("train", *words, "--seed", 5, "--mask-encoding", "index", "--epochs", 2)
    assert first.exit_code == 0, first.stderr
    again = ctsynth("train", "--config", RUN / "config.json", "--device", "cpu", "--out", "runs/again")
    assert again.exit_code == 0, again.stderr
    assert weights(RUN, 6) == weights(Path("runs/again"), 6)
    contents = [json.loads((run / "config.json").read_text()) for run in (RUN, Path("runs/again"))]
    assert contents[0] == contents[1]
    other = ctsynth(
        "train", "--config", RUN / "config.json", "--device", "cpu", "--out", "runs/other", "--seed", 6,
        "--iterations", 2,
    )  # fmt: skip
    assert other.exit_code == 2  # its epochs and these iterations
    assert "--iterations and --epochs: name one of the two" in other.stderr


def test_a_config_that_is_not_of_a_run_is_refused(folder):
    Path("x.json").write_text('{"method": "ddpm-concat"}')
    done = ctsynth("train", "--config", "x.json")
    assert done.exit_code == 2
    assert "x.json: " in done.stderr
    assert not Path("runs").exists()


def test_checkpoints_at_multiples_of_keep_every_stay(folder):
    done = ctsynth("train", *settings(), "--save-every", 1, "--keep-every", 3)
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name[-1] for path in (RUN / "checkpoints").iterdir()) == ["3", "5", "6"]


def curves(run):
    """{name: {step: value}} as TensorBoard itself reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_the_rows_of_metrics_jsonl_also_of_a_resumed_run(folder):
    pytest.importorskip("tensorboard", reason="the extra ctsynth[tensorboard] is not installed")
    words = ["train", *settings(), "--tensorboard", "--set", "patch=1"]
    for iterations in (4, 6):
        done = ctsynth(*words, "--iterations", iterations)
        assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    shown = curves(RUN)
    assert set(shown) == set(rows[0]) - {"step"}
    for name, values in shown.items():
        assert values == {row["step"]: pytest.approx(row[name], rel=1e-6) for row in rows}
    again = ctsynth(*words, "--overwrite", "--no-tensorboard")
    assert again.exit_code == 0, again.stderr
    assert not (RUN / "tensorboard").exists()


def test_without_tensorboard_the_message_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr("ctsynth.training.tensorboard.find_spec", lambda name: None)
    done = ctsynth("train", *settings(), "--tensorboard")
    assert done.exit_code == 2
    assert "--tensorboard: tensorboard is not installed" in done.stderr
    assert "pip install 'ctsynth[tensorboard]'" in done.stderr
    assert not Path("runs").exists()
