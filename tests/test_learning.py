"""The tiny preset learns: overfitting 30 slices of a real case, where class means painted in give 19.0 dB."""

import numpy as np
import pytest
import torch

from ctsynth.data.preprocess import Settings, preprocess
from ctsynth.data.store import Store
from ctsynth.sampling import Drawing, SamplerConfig, draw
from ctsynth.stop import Stop
from ctsynth.training import checkpoint
from ctsynth.training.run import configure, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(real_ct, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    preprocess(real_ct, root, settings=Settings(size=64), workers=1)
    return Store.open(root)


def psnr_of_training_slices(store, run, method, iterations, seed=0, saves=None):
    """Mean PSNR (dB) over the training slices at each checkpoint of a tiny run."""
    training = {"iterations": iterations, "seed": seed, "save_every": saves or iterations, "sample_every": 10_000}
    training["keep_every"] = training["save_every"]
    config = configure(store, method, preset="tiny", options={}, training=training, device=CPU)
    train(store, run, config, device=CPU, stop=Stop())
    (subject,) = store.subjects("train")
    real = store.window.normalize(subject.ct()).astype(np.float64)
    scores = []
    for path in checkpoint.saved(run):
        trained = checkpoint.load(path, CPU)
        hu = draw(
            trained, np.asarray(subject.mask()), 3.0, "overfit", Drawing(sampler=SamplerConfig(), device=CPU)
        )
        error = (store.window.normalize(hu) - real) ** 2
        scores.append(float(np.mean(-10 * np.log10(error.mean((1, 2))))))
    return scores


def test_a_hundred_steps_leave_noise_behind(store, tmp_path):
    before, after = psnr_of_training_slices(store, tmp_path / "run", "ddpm-mask", 100, saves=50)
    assert after > 13.0
    assert after > before + 2.0


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
