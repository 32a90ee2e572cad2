"""Methods learn: eight slices by heart, each from its own label map, and a real case in dB.

The eight are one slice of a real case, turned and mirrored: they have the same gray values, so that a method that
ignores the labels cannot draw more than their mean.
"""

import json
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

from ctsynth.data.loader import SliceDataset
from ctsynth.data.preprocess import preprocess
from ctsynth.data.settings import Settings
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.diffusion.samplers import Sampler
from ctsynth.sampling.batches import SamplingConfig, draw
from ctsynth.stop import Stop
from ctsynth.training import checkpoint
from ctsynth.training.configure import configure
from ctsynth.training.loop import Trainer
from ctsynth.training.run import train

CPU = torch.device("cpu")
SIZE, MIDDLE = 32, 14


@pytest.fixture(scope="module")
def one_case(real_ct, tmp_path_factory):
    root = tmp_path_factory.mktemp("case")
    folders = {"image_folder": real_ct / "imagesTr", "label_folder": real_ct / "labelsTr"}
    preprocess(real_ct, root, settings=Settings(size=SIZE, **folders), workers=1)
    return Store.open(root)


def eight_slices(one_case, root, size):
    """A store of its middle slice as the eight symmetries of the square turn it."""
    (subject,) = one_case.subjects("train")
    settings = {"size": size, "level": 40.0, "width": 400.0, "labels": one_case.labels.as_json()}
    geometry = Geometry((size, size, 8), np.diag([10.0, 10.0, 5.0, 1.0]))
    record = {"name": "eight", "split": "train", "geometry": geometry.as_json()}
    write_subject(root, record, settings, *(turned(array, size) for array in (subject.ct(), subject.mask())))
    write_manifest(root, settings, [("train", "eight")])
    return Store.open(root)


def turned(slices, size):
    step = SIZE // size
    one = np.asarray(slices)[MIDDLE, ::step, ::step]
    return np.stack([np.rot90(way, turns) for way in (one, np.fliplr(one)) for turns in range(4)])


def distances(drawn, real):
    """Mean squared distance of every drawn slice from every real one: (N, N), in units of the window."""
    return ((drawn[:, None] - real[None]) ** 2).mean((2, 3))


def label_dependence(drawn, real):
    """How far the drawn slices are from the middle between another real slice and their own, towards their own.

    Mean over all pairs of slices; 1 if each drawn slice is its own real one, 0 if all drawn slices are the same,
    -1 / (N - 1) if each is another one of N real slices that are equally far from each other.
    """
    to_real = distances(drawn, real)
    others = ~np.eye(len(real), dtype=bool)
    return float(np.mean((to_real - np.diag(to_real)[:, None])[others] / distances(real, real)[others]))


def test_label_dependence_is_1_of_the_real_slices_and_0_where_labels_are_ignored():
    rng = np.random.default_rng(0)
    real, other = rng.random((8, 32, 32)), rng.random((32, 32))
    assert label_dependence(real, real) == pytest.approx(1)
    assert label_dependence(np.stack([other] * 8), real) == pytest.approx(0, abs=1e-12)
    assert label_dependence((real + other) / 2, real) == pytest.approx(0.5)
    assert abs(label_dependence(rng.random((8, 32, 32)), real)) < 0.05
    apart = np.eye(8, 32 * 32).reshape(8, 32, 32)  # all equally far from each other
    assert label_dependence(np.roll(apart, 1, axis=0), apart) == pytest.approx(-1 / 7)


NARROW = {"multipliers": [1, 2], "attention": [4]}
CASES = {
    "ddpm-concat": (16, 100, NARROW, {}),
    "ddpm-mask": (16, 100, NARROW, {}),
    "ddpm-edge": (16, 100, NARROW, {}),
    "edm": (16, 100, NARROW, {}),
    "edm-volume": (16, 100, NARROW, {}),
    "sdm": (32, 80, NARROW | {"attention": [8]}, {}),
    "pix2pix": (32, 60, {}, {}),
    "spade": (16, 60, {"vgg": "no", "multipliers": [2, 1]}, {}),
    "oasis": (
        16,
        160,
        {"multipliers": [2], "hidden": 16, "discriminator_channels": 32},
        {"lr": 5e-3, "ema": 0.9},
    ),
}
"""Size, iterations, options, training."""


def learn_eight_slices(one_case, folder, method, seed=0):
    """Trains a small network; the share of the untrained error that is left, the label dependence, the run."""
    size, iterations, options, own = CASES[method]
    store = eight_slices(one_case, folder / "store", size)
    training = own | {"seed": seed, "iterations": iterations, "save_every": iterations, "sample_every": 10_000}
    config = configure(store, method, preset="tiny", options=options, training=training, device=CPU)
    run = folder / "run"
    with mock.patch("ctsynth.figures.loss_curve"):
        Trainer(run, config, SliceDataset(store, "train"), None, device=CPU, precision="fp32").train(Stop())
    (path,) = checkpoint.saved(run)
    trained = checkpoint.load(path, CPU)
    real, drawn = drawn_beside_real(trained, store)
    _, untrained = drawn_beside_real(replace(trained, method=checkpoint.make_method(config).eval()), store)
    share = np.trace(distances(drawn, real)) / np.trace(distances(untrained, real))
    return share, label_dependence(drawn, real), run


def drawn_beside_real(trained, store):
    """The real training slices and what is drawn from their label maps, (Z, H, W) in units of the window."""
    (subject,) = store.subjects("train")
    sampler = Sampler() if trained.method.samplers else None
    hu = draw(trained, np.asarray(subject.mask()), 3.0, "overfit", SamplingConfig(sampler=sampler, device=CPU))
    return [store.window.normalize(slices).astype(np.float64) for slices in (subject.ct(), hu)]


@pytest.mark.parametrize("method", CASES)
def test_eight_slices_are_learned_by_heart(one_case, tmp_path, method):
    """The share says that a network learns, the dependence that it does not ignore the label maps.

    Measured with one to three seeds, on one CPU with AVX-512, with AVX2 at most and with no vectors in torch: a
    share of 0.07 to 0.40, where an untrained network has 1 and label maps all alike leave 0.12 to 0.36; and a
    dependence of 0.30 to 0.48, where those leave -0.01 to 0.00.
    """
    share, dependence, run = learn_eight_slices(one_case, tmp_path, method)
    assert share < 0.6
    assert dependence > 0.15
    rows = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for row in rows for value in row.values())


@pytest.fixture(scope="module")
def store(real_ct, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    preprocess(real_ct, root, settings=Settings(size=64), workers=1)
    return Store.open(root)


def psnr(trained, store):
    """Mean PSNR (dB) over the training slices."""
    real, drawn = drawn_beside_real(trained, store)
    return float(np.mean(-10 * np.log10(((drawn - real) ** 2).mean((1, 2)))))


def psnr_of_training_slices(store, run, method, iterations, seed=0, saves=None):
    """Of a tiny run at each checkpoint."""
    training = {"iterations": iterations, "seed": seed, "save_every": saves or iterations, "sample_every": 10_000}
    training["keep_every"] = training["save_every"]
    config = configure(store, method, preset="tiny", options={}, training=training, device=CPU)
    train(store, run, config, device=CPU, stop=Stop())
    return [psnr(checkpoint.load(path, CPU), store) for path in checkpoint.saved(run)]


@pytest.mark.slow
def test_the_tiny_preset_overfits_a_real_case_in_500_steps(store, tmp_path):
    """Class means painted in give 19.0 dB."""
    (found,) = psnr_of_training_slices(store, tmp_path / "run", "ddpm-mask", 500)
    assert found >= 23.0


@pytest.mark.slow
def test_mask_guided_leads_concat_early(store, tmp_path):  # paper: it converges sooner
    leads = []
    for seed in range(3):
        mask, concat = (
            psnr_of_training_slices(store, tmp_path / f"{name}{seed}", name, 250, seed, saves=125)
            for name in ("ddpm-mask", "ddpm-concat")
        )
        leads.append(np.subtract(mask, concat))
    assert (np.mean(leads, axis=0) >= 0.5).all(), leads
