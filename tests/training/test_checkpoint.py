import contextlib
import json
import logging
import os
import resource
import shutil
import time
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from small_cases import make_small_case
from small_runs import CPU, ctsynth, fit, settings, weights
from small_stores import both_splits

from ctsynth.config import RunConfig
from ctsynth.data.store import Store
from ctsynth.errors import DataError, UsageError
from ctsynth.files import sha256
from ctsynth.labels import LabelSet
from ctsynth.sampling.batches import SamplingConfig
from ctsynth.sampling.cases import cases_of_store
from ctsynth.sampling.record import provenance
from ctsynth.training import checkpoint, weights_file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the store out and runs/one, which was trained on it; not to be changed."""
    root = tmp_path_factory.mktemp("made")
    fit(both_splits(root / "out", make_small_case), root / "runs" / "one")
    return root


@pytest.fixture
def store(made, tmp_path):
    return Store.open(shutil.copytree(made / "out", tmp_path / "out"))


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made / "runs" / "one", tmp_path / "runs" / "one")


def steps(run):
    return [checkpoint.step_of(path) for path in checkpoint.saved(run)]


def truncate(file):
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size * 2 // 3)


def test_a_checkpoint_has_four_files_and_latest_names_it(run):
    (path,) = [path for path in checkpoint.saved(run) if checkpoint.step_of(path) == 6]
    assert sorted(file.name for file in path.iterdir()) == sorted(
        ("model.safetensors", "ema.safetensors", "config.json", "trainer.pt")
    )
    assert (run / "latest").read_text() == "step_000000006\n"
    assert checkpoint.find(run) == path
    ours = json.loads((path / "config.json").read_text())
    hashes = ours.pop("sha256")
    assert sorted(hashes) == sorted(file.name for file in path.iterdir())
    assert all(hashes[name] == sha256(path / name) for name in hashes.keys() - {"config.json"})
    assert ours | {"sha256": {}} == json.loads((run / "config.json").read_text())
    torch.load(path / "trainer.pt", weights_only=True)


def test_a_checkpoint_is_hashed_as_it_is_written(run):
    folder = checkpoint.find(run)
    hashes = RunConfig.read(folder / "config.json").sha256
    assert hashes == {
        name: sha256(folder / name) for name in ("ema.safetensors", "model.safetensors", "trainer.pt")
    }


def test_the_newest_two_and_multiples_of_keep_every_are_kept(store, tmp_path):
    run = fit(store, tmp_path / "run", iterations=9, save_every=1, keep_every=3)
    assert steps(run) == [3, 6, 8, 9]


def test_the_newest_run_and_its_newest_checkpoint_are_found(run, tmp_path):
    other = tmp_path / "runs" / "other"
    shutil.copytree(run, other)
    now = time.time()
    os.utime(run / "latest", (now, now))
    os.utime(other / "latest", (now - 60, now - 60))
    assert checkpoint.find(None, tmp_path / "runs") == run / "checkpoints" / "step_000000006"
    os.utime(other / "latest", (now + 60, now + 60))
    assert checkpoint.find(None, tmp_path / "runs").parent.parent == other
    for damaged in ("", "step_000000099", "elsewhere"):
        (run / "latest").write_text(damaged)
        assert checkpoint.find(run).name == "step_000000006"
    (run / "latest").unlink()
    assert checkpoint.find(run).name == "step_000000006"
    one = run / "checkpoints" / "step_000000004"
    assert checkpoint.find(one) == one


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_checkpoint_is_a_usage_error_that_says_how_to_get_one(tmp_path, name):
    (tmp_path / "empty").mkdir()
    for model in (tmp_path / name, None):
        with pytest.raises(UsageError, match=r"no such run|no checkpoint|no run with a checkpoint") as found:
            checkpoint.find(model, tmp_path / name)
        assert "ctsynth train" in found.value.hint


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_after_damage_the_runs_own_checkpoints_beyond_do_not_displace_new_ones(store, tmp_path):
    run = fit(store, tmp_path / "run", iterations=6, save_every=1, keep_every=3)
    for path in checkpoint.saved(run)[1:]:  # of 3, 5, 6
        truncate(path / "trainer.pt")
    fit(store, run, iterations=4, save_every=1, keep_every=3)
    assert steps(run) == [3, 4, 5, 6]
    assert (run / "latest").read_text() == "step_000000004\n"
    fit(store, run, iterations=6, save_every=1, keep_every=3)
    assert weights(run, 6) == weights(fit(store, tmp_path / "whole"), 6)


def test_train_makes_latest_name_the_checkpoint_it_continued_from(store, run):
    for text in (b"", b"\xff\xfe", b"step_000000004\n"):
        (run / "latest").write_bytes(text)
        assert checkpoint.find(run) in checkpoint.saved(run)
        fit(store, run)
        assert (run / "latest").read_text() == "step_000000006\n"


@pytest.mark.parametrize("raw", [False, True])
def test_sample_refuses_weights_with_a_flipped_bit(run, raw):
    file = checkpoint.find(run) / ("model.safetensors" if raw else "ema.safetensors")
    flip(file, file.stat().st_size - 5)  # a number like any other
    with pytest.raises(DataError, match=rf"{file.name}: damaged: its SHA-256 is not the one in config.json"):
        checkpoint.load(file.parent, CPU, raw=raw)


@pytest.mark.parametrize(
    ("was", "becomes"), [('"level": 40.0', '"level": 48.0'), ('"size": 16', '"size": 24'), ('"aorta"', '"aurta"')]
)
def test_settings_that_changed_after_they_were_saved_are_refused(store, run, caplog, was, becomes):
    """A level of 48 in the place of 40 would move every voxel by 8 HU."""
    file = checkpoint.find(run) / "config.json"
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, becomes))
    with pytest.raises(DataError, match=r"step_000000006/config\.json: damaged: its SHA-256"):
        checkpoint.load(file.parent, CPU)
    fit(store, run)
    assert "step_000000006/config.json: damaged" in caplog.text
    assert checkpoint.load(checkpoint.find(run), CPU).config.level == 40


def test_reformatted_settings_and_settings_without_a_hash_are_read(run):
    path = checkpoint.find(run)
    before = checkpoint.load(path, CPU)
    file = path / "config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(content.items()))))
    assert checkpoint.load(path, CPU).config == before.config
    edit(file, lambda _: {})
    assert checkpoint.load(path, CPU).config == before.config


@pytest.mark.parametrize("name", ["../../../elsewhere", "/dev/zero", "notes.txt"])
def test_a_config_that_names_other_files_is_refused(store, run, caplog, name):
    """Nothing outside the checkpoint is read because a file says so."""
    path = checkpoint.find(run)
    edit(path / "config.json", lambda content: {"sha256": content["sha256"] | {name: "0" * 64}})
    with pytest.raises(DataError, match=r"step_000000006/config\.json: .* is no file of a checkpoint"):
        checkpoint.verify(path)


@pytest.mark.parametrize("stray", ["step_000000003_backup", "step_old", "step_", "step_12"])
def test_folders_of_other_names_are_no_checkpoints(store, run, stray):
    kept = run / "checkpoints" / stray
    shutil.copytree(run / "checkpoints" / "step_000000004", kept)
    before = {path: path.read_bytes() for path in kept.iterdir()}
    fit(store, run, iterations=8)
    assert steps(run) == [6, 8]
    assert {path: path.read_bytes() for path in kept.iterdir()} == before
    assert checkpoint.find(kept) == kept  # which can be drawn from
    (case,) = cases_of_store(store, "test", checkpoint.load(kept, CPU), run / "drawn")
    assert provenance(checkpoint.load(kept, CPU), case, SamplingConfig(sampler=None))["iterations"] is None


def test_a_checkpoint_with_a_users_file_is_not_deleted(store, run):
    notes = run / "checkpoints" / "step_000000004" / "notes.txt"
    notes.write_text("the best of all")
    fit(store, run, iterations=8)
    assert notes.read_text() == "the best of all"


@pytest.mark.parametrize("name", ["ema.safetensors", "config.json"])
def test_sample_names_a_damaged_file(run, name):
    file = checkpoint.find(run) / name
    truncate(file)
    with pytest.raises(DataError, match=f"step_000000006/{name}"):
        checkpoint.load(checkpoint.find(run), CPU)
    file.unlink()
    with pytest.raises(DataError, match=f"step_000000006/{name}"):
        checkpoint.load(checkpoint.find(run), CPU)


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "trainer.pt"])
@pytest.mark.parametrize("size", [0, 1, 9, 100, "most", "bit", None])
def test_train_falls_back_to_the_checkpoint_before_a_damaged_one(store, run, caplog, name, size):
    whole = weights(run, 6)
    file = checkpoint.find(run) / name
    if size is None:
        file.unlink()
    elif size == "bit":
        flip(file, file.stat().st_size // 2)
    else:
        os.truncate(file, file.stat().st_size - 1 if size == "most" else size)
    with caplog.at_level(logging.INFO, "ctsynth"):
        fit(store, run)
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert f"step_000000006/{name}" in warned[0].getMessage()
    assert f"continuing {run} at step 4" in caplog.text
    assert weights(run, 6) == whole


def test_train_refuses_a_run_without_a_readable_checkpoint(store, run):
    for path in checkpoint.saved(run):
        truncate(path / "trainer.pt")
    with pytest.raises(DataError, match="none of its 2 checkpoints can be read"):
        fit(store, run)
    assert steps(run) == [4, 6]


def test_a_new_run_does_not_overwrite_checkpoints_without_a_config(store, run):
    (run / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json: no such file"):
        fit(store, run)


@pytest.mark.parametrize(
    ("method", "training", "named"),
    [
        ("ddpm-concat", {"seed": 1}, "seed 0 there, 1 here"),
        ("ddpm-concat", {"lr": 0.5}, "lr 0.001 there, 0.5 here"),
        ("ddpm-concat", {"batch_size": 2}, "batch_size 4 there, 2 here"),
        ("ddpm-concat", {"options": {"channels": 16}}, "channels 8 there, 16 here"),
        ("ddpm-concat", {"options": {"multipliers": [1, 1]}}, r"multipliers \[1, 2\] there, \[1, 1\] here"),
        ("ddpm-mask", {"options": {"encoder_channels": 8}}, "method 'ddpm-concat' there, 'ddpm-mask' here"),
    ],
)
def test_another_setting_is_refused_by_name_and_changes_nothing(store, run, method, training, named):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=named):
        fit(store, run, method, **training)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_another_store_is_refused_and_a_moved_one_is_not(store, run, tmp_path, small_case):
    moved = tmp_path / "moved"
    shutil.copytree(store.root, moved)
    fit(type(store).open(moved), run, iterations=7)
    other = both_splits(tmp_path / "other", lambda seed: small_case(seed + 20))
    with pytest.raises(UsageError, match="data "):
        fit(other, run)


def test_a_store_of_other_colors_is_trained_on_and_drawn_from(store, run, tmp_path):
    classes = tuple(replace(organ, color="#010203") for organ in store.labels.classes)
    other = replace(store, labels=LabelSet(store.labels.name, classes))
    fit(other, run, iterations=7)
    assert cases_of_store(other, "test", checkpoint.load(checkpoint.find(run), CPU), tmp_path / "drawn")


def edit(file, change):
    """Changes a config.json, and has no hash of its own in it, as those of early checkpoints."""
    content = json.loads(file.read_text())
    content["sha256"].pop("config.json", None)
    file.write_text(json.dumps(content | change(content)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "gan"}, "no method is called 'gan'"),
        ({"method": "unet2d", "options": {}}, "unet2d is a segmenter"),
        ({"size": 0}, "size is 0, wanted a whole number within [8, 4,096]"),
        ({"size": 18}, "the side must divide by 4"),
        ({"options": {"channels": 6}}, "channels must divide by 4"),
        ({"options": []}, "options is [], wanted an object"),
        ({"options": {"channels": 8192, "multipliers": [256, 256]}}, "do not fit into memory"),
        ({"labels": {"name": "x", "classes": [{"id": "1"}]}}, "classes[0].id is '1'"),
        ({"labels": None}, "labels is None"),
        ({"level": 32_700.0}, "window level 32700"),
        ({"width": float("nan")}, "NaN is no finite number"),
        ({"training": {"lr": -1}}, "training.lr is -1, wanted a finite number above 0"),
        ({"training": []}, "training is [], wanted an object"),
        ({"sha256": {"model.safetensors": 3}}, "sha256.model.safetensors is 3, wanted a string"),
    ],
    ids=str,
)
def test_a_config_that_is_wrong_in_a_field_is_refused_by_its_name(run, monkeypatch, change, message):
    monkeypatch.setattr(checkpoint, "memory", lambda: 2**30)  # what fits is filled, which takes seconds
    path = checkpoint.find(run)
    edit(path / "config.json", lambda _: change)
    with pytest.raises((DataError, UsageError)) as refused:
        checkpoint.load(path, CPU)
    assert refused.value.message.startswith(f"{path / 'config.json'}: ")
    assert message in refused.value.message


def test_a_network_beyond_this_machines_memory_is_refused_before_it_is_filled(run, monkeypatch):
    path = checkpoint.find(run)
    needed = sum(tensor.nbytes for tensor in checkpoint.load(path, CPU).method.parameters())
    monkeypatch.setattr(checkpoint, "memory", lambda: needed)
    assert checkpoint.load(path, CPU)
    monkeypatch.setattr(checkpoint, "memory", lambda: needed - 1)
    with pytest.raises(
        UsageError, match=r"ddpm-concat: its parameters alone do not fit into memory \(0 GiB here\)"
    ):
        checkpoint.load(path, CPU)


@pytest.mark.parametrize("raw", [False, True])
def test_weights_under_another_methods_config_are_refused(run, raw):
    path = checkpoint.find(run)
    edit(
        path / "config.json",
        lambda content: {"method": "ddpm-edge", "options": content["options"] | {"encoder_channels": 8}},
    )
    with pytest.raises(DataError, match=r"safetensors: weights of another network: \d+ of \d+ tensors do not fit"):
        checkpoint.load(path, CPU, raw=raw)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(run, value):
    file = checkpoint.find(run) / "ema.safetensors"
    weights = safetensors.torch.load_file(file)
    name = max(weights)
    weights[name].view(-1)[-1] = value
    safetensors.torch.save_file(weights, file)
    with pytest.raises(DataError, match=f"ema.safetensors: {name} holds NaN or infinity"):
        weights_file.load(checkpoint.make_method(RunConfig.read(run / "config.json")), file)


def test_a_later_schema_is_refused(run):
    path = checkpoint.find(run) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    with pytest.raises(DataError, match="schema 2, this version reads 1"):
        checkpoint.load(path.parent, CPU)


def test_raw_and_averaged_weights_differ_and_both_are_hashed(run):
    averaged, raw = (checkpoint.load(checkpoint.find(run), CPU, raw=raw) for raw in (False, True))
    assert averaged.digest != raw.digest
    assert len(raw.digest) == 64
    assert not averaged.method.training
    pairs = zip(averaged.method.parameters(), raw.method.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


@contextlib.contextmanager
def files_of_at_most(size):
    """A disk that is full for whoever writes more than so many bytes to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", ["model.safetensors", "trainer.pt", "metrics.jsonl"])
def test_without_space_the_old_checkpoint_stays_and_the_message_says_why(store, tmp_path, writer):
    words = [
        "train",
        *settings(iterations=4, **{"save-every": 1000}),
        "--data",
        store.root,
        "--out",
        tmp_path / "run",
    ]
    assert ctsynth(*words[:-4], "--iterations", 2, *words[-4:]).exit_code == 0
    path = checkpoint.find(tmp_path / "run")
    limit = (path / "model.safetensors").stat().st_size + 100
    if writer == "model.safetensors":
        limit //= 2
    elif writer == "metrics.jsonl":
        limit *= 4
        row = (
            '{"step": 1, "loss": 1.0}'.ljust(limit - 1) + "\n"
        )  # one long row is read sooner than many short ones
        (tmp_path / "run" / "metrics.jsonl").write_text(row)
    before = weights(tmp_path / "run", 2)
    with files_of_at_most(limit):
        done = ctsynth(*words)
    assert done.exit_code == 1, done.stderr
    assert "cannot write it" in done.stderr
    assert "Traceback" not in done.stderr
    assert weights(tmp_path / "run", 2) == before
    assert not list((tmp_path / "run").rglob(".partial-*"))
    assert (tmp_path / "run" / "latest").read_text().strip() in [
        p.name for p in checkpoint.saved(tmp_path / "run")
    ]
    assert ctsynth(*words).exit_code == 0  # with space again
