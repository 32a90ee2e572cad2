"""Runs that begin from the weights of another."""

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_cases import make_small_case
from small_runs import CPU, SMALL, TRAINING, ctsynth, fit, settings
from small_stores import both_splits

from ctsynth.config import RunConfig
from ctsynth.errors import UsageError
from ctsynth.training import checkpoint
from ctsynth.training.configure import configure
from ctsynth.training.start import begun_from


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return both_splits(tmp_path_factory.mktemp("store"), make_small_case)


@pytest.fixture(scope="module")
def slices(store, tmp_path_factory):
    """A run of edm."""
    return fit(store, tmp_path_factory.mktemp("runs") / "edm", "edm", iterations=2)


def volume(store, run, *more):
    words = ["train", *settings("edm-volume", iterations=2), "--data", store.root, "--out", run, *more]
    return ctsynth(*words)


def test_a_volume_model_begins_as_the_slice_model(store, slices, tmp_path):
    run = tmp_path / "volume"
    done = volume(store, run, "--from", slices, "--lr", 1e-30)
    assert done.exit_code == 0, done.stderr
    source = load_file(checkpoint.find(slices) / "ema.safetensors")
    for name in ("model", "ema"):
        own = load_file(checkpoint.find(run) / f"{name}.safetensors")
        assert all(torch.allclose(own[key], values, atol=1e-20, rtol=0) for key, values in source.items())
        assert not any(
            values.abs().max() > 1e-20 for key, values in own.items() if key.endswith("mixing.conv.weight")
        )
    assert RunConfig.read(run / "config.json").start["path"] == str(slices.absolute())


def test_an_untrained_volume_model_draws_what_its_slice_model_draws(store, slices, tmp_path):
    run = tmp_path / "volume"
    assert volume(store, run, "--from", slices, "--lr", 1e-30).exit_code == 0
    for model, words in ((slices, ["--noise", "slice"]), (run, []), (run, ["--chunk", 4])):
        out = tmp_path / f"drawn{len(words)}{model.name}"
        words = ["--model", model, "--out", out, "--data", store.root, "--device", "cpu", *words]
        assert ctsynth("sample", "--steps", 4, *words).exit_code == 0
    drawn = [nib.load(file).get_fdata() for file in sorted(tmp_path.rglob("subject_t.nii.gz"))]
    assert len(drawn) == 3
    for other in drawn[1:]:
        assert np.abs(other - drawn[0]).max() <= 1  # HU


def test_a_run_continues_without_the_run_it_began_from(store, slices, tmp_path):
    other = tmp_path / "other"
    (tmp_path / "edm").symlink_to(slices)
    for name, words in (("whole", ["--save-every", 4]), ("broken", [])):
        for last in (4,) if name == "whole" else (2, 4):
            done = volume(store, other / name, "--from", tmp_path / "edm", "--iterations", last, *words)
            assert done.exit_code == 0, done.stderr
            if name == "broken" and last == 2:
                (tmp_path / "edm").unlink()
    whole, broken = (checkpoint.find(other / name) / "model.safetensors" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()


def test_a_run_is_not_continued_from_elsewhere(store, slices, tmp_path):
    assert volume(store, tmp_path / "run").exit_code == 0
    done = volume(store, tmp_path / "run", "--from", slices)
    assert done.exit_code == 2
    assert "from None there" in done.stderr


@pytest.fixture(scope="module")
def concat(store, tmp_path_factory):
    return fit(store, tmp_path_factory.mktemp("runs") / "concat", iterations=1)


def config(store, method="edm-volume", **options):
    options = SMALL.get(method, {}) | options
    return configure(store, method, preset="tiny", options=options, training=TRAINING, device=CPU)


def test_an_unsuitable_run_to_begin_from_is_refused(store, slices, concat, tmp_path):
    with pytest.raises(UsageError, match="edm-volume does not begin from ddpm-concat"):
        begun_from(config(store), concat, tmp_path / "run")
    run = fit(store, tmp_path / "volume", "edm-volume", iterations=1)
    with pytest.raises(UsageError, match="edm does not begin from edm-volume"):
        begun_from(config(store, "edm"), run, tmp_path / "run")
    with pytest.raises(UsageError, match="in the folder of this very run"):
        begun_from(config(store, "edm"), slices, slices, overwrite=True)
    with pytest.raises(UsageError, match="no such run or checkpoint"):
        begun_from(config(store), tmp_path / "nothing", tmp_path / "run")


def test_a_network_of_other_sizes_is_refused(store, slices, tmp_path):
    done = volume(store, tmp_path / "run", "--from", slices, "--set", "channels=16")
    assert done.exit_code == 2
    assert "tensors do not fit, such as" in done.stderr
