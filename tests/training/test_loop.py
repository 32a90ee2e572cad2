import json
import math
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_runs import CPU, OPTIONS, fit
from small_stores import both_splits

from ctsynth import figures
from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.errors import RunError, UsageError
from ctsynth.methods import base
from ctsynth.methods.base import Preset
from ctsynth.training import checkpoint
from ctsynth.training.configure import configure
from ctsynth.training.ema import EMA


@pytest.fixture
def store(tmp_path, small_case):
    return both_splits(tmp_path / "out", small_case)


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def break_step(monkeypatch, number):
    """Plants a NaN in the images of a step, counted from 1."""
    batch, count = SliceDataset.batch, 0

    def planted(self, indices, *words):
        nonlocal count
        found = batch(self, indices, *words)
        count += len(indices) == 4
        if count == number:
            found.image[0, 0, 3, 3] = math.nan
        return found

    monkeypatch.setattr(SliceDataset, "batch", planted)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(store, tmp_path, monkeypatch):
    break_step(monkeypatch, 4)
    with pytest.raises(RunError, match=r"loss.* not finite at step 4: stopped; the last good .*step_000000002"):
        fit(store, tmp_path / "run")
    assert [path.name for path in checkpoint.saved(tmp_path / "run")] == ["step_000000002"]
    trained = checkpoint.load(checkpoint.find(tmp_path / "run"), CPU)
    assert all(parameter.isfinite().all() for parameter in trained.method.parameters())
    monkeypatch.undo()
    fit(store, tmp_path / "run")
    assert all(math.isfinite(value) for row in rows(tmp_path / "run") for value in row.values())


def test_a_loss_that_is_not_finite_at_first_leaves_no_checkpoint(store, tmp_path, monkeypatch):
    break_step(monkeypatch, 1)
    with pytest.raises(RunError, match="step 1: stopped; there is no checkpoint yet"):
        fit(store, tmp_path / "run")
    assert checkpoint.saved(tmp_path / "run") == []


def test_a_rate_that_is_far_too_high_stops_the_run(store, tmp_path):
    with pytest.raises(RunError, match="not finite at step 2"):
        fit(store, tmp_path / "run", lr=1e30, save_every=1)
    assert [path.name for path in checkpoint.saved(tmp_path / "run")] == ["step_000000001"]


def test_metrics_have_step_terms_rate_norm_and_speed(store, tmp_path):
    run = fit(store, tmp_path / "run", iterations=6, log_every=2)
    names = {"step", "epoch", "loss", "mse", "vb", "grad_norm", "lr", "images_per_s"}
    assert [row["step"] for row in rows(run)] == [2, 4, 6]
    for row in rows(run):
        assert set(row) == names
        assert row["loss"] == pytest.approx(row["mse"] + row["vb"] * 1e-3, rel=0.5)
        assert row["lr"] == 1e-3
        assert row["grad_norm"] > 0
        assert row["images_per_s"] > 0
    assert rows(run)[-1]["epoch"] == 2.0  # 6 steps of 4 of 12 slices


def test_a_row_is_the_mean_of_its_steps(store, tmp_path):
    every = rows(fit(store, tmp_path / "every", log_every=1))
    two = rows(fit(store, tmp_path / "two", log_every=2))
    for row, first, second in zip(two, every[::2], every[1::2], strict=True):
        assert row["loss"] == pytest.approx((first["loss"] + second["loss"]) / 2)


def test_checkpoints_are_listed_when_one_is_saved_and_not_at_each_step(store, tmp_path, monkeypatch):
    saved, found = checkpoint.saved, []
    for steps in (4, 12):
        listed = []
        monkeypatch.setattr(checkpoint, "saved", lambda run, listed=listed: listed.append(run) or saved(run))
        fit(store, tmp_path / str(steps), iterations=steps, save_every=steps)
        found.append(len(listed))
    assert found[0] == found[1] > 0


def test_a_broken_line_of_metrics_is_dropped(store, tmp_path):
    run = fit(store, tmp_path / "run", iterations=4)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    fit(store, run, iterations=6)
    assert [row["step"] for row in rows(run)] == [2, 4, 6]


def test_warmup_and_cosine_are_in_the_rates(store, tmp_path):
    run = fit(store, tmp_path / "run", iterations=8, log_every=1, warmup=4, lr_schedule="cosine")
    cosine = [0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * n / 8)) for n in range(8)]
    ramp = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert [row["lr"] for row in rows(run)] == pytest.approx(1e-3 * np.multiply(cosine, ramp))


@pytest.mark.parametrize("method", ["ddpm-concat", "spade"])
def test_a_clipped_gradient_has_the_bounds_norm_and_the_unclipped_norm_is_logged(
    tmp_path, small_case, monkeypatch, method
):
    """With plain gradient descent, whose step is the rate times what is left of the gradient."""
    monkeypatch.setattr(torch.optim, "Adam", lambda weights, lr, **_: torch.optim.SGD(weights, lr))
    store = both_splits(tmp_path / "store", small_case, size=32)
    free = dict(gradients(fit(store, tmp_path / "free", method, iterations=1, log_every=1, lr=0.1)))
    bound = 0.5 * min(norm for norm, _ in free.values())
    clipped = gradients(
        fit(store, tmp_path / "clipped", method, iterations=1, log_every=1, lr=0.1, clip_norm=bound)
    )
    for phase, (norm, step) in clipped:
        assert step == pytest.approx(bound, rel=1e-3)
        assert free[phase][1] == pytest.approx(free[phase][0], rel=1e-3)
        if phase in ("denoiser", "generator"):  # the first; a later one sees what it has learned
            assert norm == free[phase][0]


def gradients(run):
    """Of each phase the norm that is logged, and how far its weights have moved over its rate."""
    config, (row,) = RunConfig.read(run / "config.json"), rows(run)
    model, after = checkpoint.make_model(config), load_file(checkpoint.find(run) / "model.safetensors")
    names = {parameter: name for name, parameter in model.named_parameters()}
    for phase in model.phases():
        moved = torch.stack([(after[names[weight]] - weight).norm() for weight in phase.parameters]).norm().item()
        prefix = f"{phase.name}_" if len(config.phases) > 1 else ""
        yield phase.name, (row[f"{prefix}grad_norm"], moved / config.phases[phase.name]["lr"])


def test_pictures_appear_while_it_trains_and_open(store, tmp_path, monkeypatch):
    captions, sheet = [], figures.sheet

    def listen(*words, caption="", **more):
        captions.append(caption)
        return sheet(*words, caption=caption, **more)

    monkeypatch.setattr(figures, "sheet", listen)
    run = fit(store, tmp_path / "run", iterations=4, sample_every=2, pictures=True)
    pictures = [run / "loss.png", run / "samples" / "step_000000002.png", run / "samples" / "step_000000004.png"]
    assert sorted(run.rglob("*.png")) == sorted(pictures)
    for path in pictures:
        with Image.open(path) as image:
            assert image.convert("L").getextrema() != (0, 0)
    assert len(captions) == 2
    assert all(caption.startswith("early") for caption in captions)  # the paper's epsilon model


def test_an_empty_split_is_refused(store, tmp_path):
    for subject in store.subjects("train"):
        del store.subjects_by_name[subject.name]
    with pytest.raises(UsageError, match="no training slices"):
        fit(store, tmp_path / "run")


def test_the_average_follows_the_model_with_a_warm_up():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = EMA(model, 0.9)
    expected = 0.0
    for step in range(1, 200):
        torch.nn.init.constant_(model.weight, step)
        ema.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert ema.model.weight.item() == pytest.approx(expected)
    assert ema.model.weight.item() == pytest.approx(199 - 0.9 / 0.1, rel=1e-3)  # lags by d / (1 - d) steps
    assert not ema.model.weight.requires_grad


def test_epochs_are_counted_in_slices(store, tmp_path):
    training = {"epochs": 3, "batch_size": 5, "iterations": None}
    config = configured(store, **training)
    assert config.training.iterations == 8  # 3 passes over 12 slices are 36, in batches of 5
    assert config.training.epochs == 3


def test_iterations_replace_the_presets_epochs(store, monkeypatch):
    cls = base.find_method("ddpm-concat")
    monkeypatch.setattr(cls, "presets", {"paper": Preset({}, {"epochs": 300})})
    assert configured(store, iterations=7).training.epochs is None
    assert configured(store, iterations=7).training.iterations == 7
    assert configured(store, iterations=None).training.iterations == 300 * 12 // 4
    assert configured(store, iterations=None, epochs=1).training.iterations == 3
    with pytest.raises(UsageError, match="name one of the two"):
        configured(store, iterations=7, epochs=1)


def configured(store, **training):
    said = {"batch_size": 4} | {key: value for key, value in training.items() if value is not None}
    return configure(store, "ddpm-concat", preset="paper", options=OPTIONS, training=said, device=CPU)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is counted in Linux's /proc")
@pytest.mark.parametrize("method", ["ddpm-concat", "edm-volume"])
def test_memory_is_flat_over_2000_steps(tmp_path, small_case, monkeypatch, method):
    store = both_splits(tmp_path / "out", small_case, size=32)
    resident = []
    update = EMA.update

    def counted(self, model, step):
        update(self, model, step)
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())

    monkeypatch.setattr(EMA, "update", counted)
    fit(store, tmp_path / "run", method, iterations=2000, batch_size=2, save_every=500, log_every=100)
    assert len(resident) == 2000
    assert max(resident[1000:]) < max(resident[:1000]) + 8e6
