"""The tiny preset learns: overfitting slices of a real case, where class means painted in give 19.0 dB."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from ctsynth.data.preprocess import Settings, preprocess
from ctsynth.data.store import Store
from ctsynth.diffusion.samplers import SamplerConfig
from ctsynth.drawing import Drawing, draw
from ctsynth.stop import Stop
from ctsynth.training import checkpoint
from ctsynth.training.run import configure, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(real_ct, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    preprocess(real_ct, root, settings=Settings(size=64), workers=1)
    return Store.open(root)


@pytest.fixture(scope="module")
def eight(real_ct, tmp_path_factory):
    """A store of eight slices around the kidneys."""
    source, root = tmp_path_factory.mktemp("eight"), tmp_path_factory.mktemp("store")
    for folder in ("imagesTr", "labelsTr"):
        (source / folder).mkdir()
        image = nib.load(real_ct / folder / "ts_example_0001.nii.gz")
        nib.save(image.slicer[:, :, 8:24:2], source / folder / "ts_example_0001.nii.gz")
    rule = {"image_folder": source / "imagesTr", "label_folder": source / "labelsTr"}
    preprocess(source, root, settings=Settings(size=64, **rule), workers=1)
    return Store.open(root)


def psnr(trained, store, sampler):
    """Mean PSNR (dB) over the training slices."""
    (subject,) = store.subjects("train")
    real = store.window.normalize(subject.ct()).astype(np.float64)
    hu = draw(trained, np.asarray(subject.mask()), 3.0, "overfit", Drawing(sampler=sampler, device=CPU))
    error = (store.window.normalize(hu) - real) ** 2
    return float(np.mean(-10 * np.log10(error.mean((1, 2)))))


def psnr_of_training_slices(store, run, method, iterations, seed=0, saves=None):
    """Of a tiny run at each checkpoint."""
    training = {"iterations": iterations, "seed": seed, "save_every": saves or iterations, "sample_every": 10_000}
    training["keep_every"] = training["save_every"]
    config = configure(store, method, preset="tiny", options={}, training=training, device=CPU)
    train(store, run, config, device=CPU, stop=Stop())
    sampler = SamplerConfig() if checkpoint.make_method(config).samplers else None
    return [psnr(checkpoint.load(path, CPU), store, sampler) for path in checkpoint.saved(run)]


def test_a_hundred_steps_leave_noise_behind(store, tmp_path):
    before, after = psnr_of_training_slices(store, tmp_path / "run", "ddpm-mask", 100, saves=50)
    assert after > 13.0
    assert after > before + 2.0


QUICK_OASIS = {"multipliers": [4, 2, 1], "hidden": 16}


@pytest.mark.parametrize(
    ("method", "iterations", "line", "said", "options"),
    [
        ("sdm", 60, 8.0, {}, {}),
        ("pix2pix", 60, 16.0, {}, {}),
        ("spade", 40, 16.0, {}, {"vgg": "no"}),
        ("oasis", 120, 10.0, {"lr": 2e-3}, QUICK_OASIS),
    ],
)
def test_eight_slices_are_learned_by_heart(eight, tmp_path, method, iterations, line, said, options):
    """Untrained a GAN has 8.6 dB, a diffusion model 5.7."""
    training = {"iterations": iterations, "save_every": iterations, "sample_every": 10_000} | said
    config = configure(eight, method, preset="tiny", options=options, training=training, device=CPU)
    train(eight, tmp_path / "run", config, device=CPU, stop=Stop())
    (path,) = checkpoint.saved(tmp_path / "run")
    trained = checkpoint.load(path, CPU)
    untrained = replace(trained, method=checkpoint.make_method(config).eval())
    sampler = SamplerConfig() if trained.method.samplers else None
    assert psnr(untrained, eight, sampler) < line
    assert psnr(trained, eight, sampler) > line
    rows = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for row in rows for value in row.values())


@pytest.mark.slow
def test_the_tiny_preset_overfits_a_real_case_in_500_steps(store, tmp_path):
    (psnr,) = psnr_of_training_slices(store, tmp_path / "run", "ddpm-mask", 500)
    assert psnr >= 23.0


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
