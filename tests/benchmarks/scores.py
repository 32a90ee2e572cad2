"""Scores beside the packages that define them, on made-up slices and features."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ctsynth.data.slices import stack, stacked_geometry, to_slices
from ctsynth.data.store import write_manifest, write_subject
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.features.frechet import frechet_distance
from ctsynth.features.inception import Inception, build, import_torchvision
from ctsynth.labels import AMOS22
from ctsynth.metrics.base import Pair
from ctsynth.metrics.psnr import PSNR
from ctsynth.metrics.ssim import SSIM
from ctsynth.phantom.subject import make_subject

from .row import Row, Side

FEATURES = 2048


def distance(count: int, d: int, official: Path, folder: Path) -> tuple[Side, Side]:
    import_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    rng = np.random.default_rng(0)
    sets = [np.maximum(rng.normal(size=(count, d)), 0).astype(np.float32) for _ in range(2)]

    def theirs() -> float:
        statistics = [(some.mean(axis=0), np.cov(some, rowvar=False)) for some in sets]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of SciPy, and that the product is singular
            return calculate_frechet_distance(*statistics[0], *statistics[1])

    return partial(frechet_distance, *sets), theirs


def inception(official: Path, folder: Path) -> tuple[Side, Side]:
    """Theirs as ``get_activations``, without reading files; the weights are random."""
    import_torchvision()
    from torchvision.models import inception_v3

    net = inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    weights = net.state_dict()
    slices = np.random.default_rng(0).integers(256, size=(4, 256, 256)).astype(np.float32) / 255
    plain, folded = build(weights), Inception(weights, "cpu")

    def theirs() -> NDArray[np.float32]:
        images = torch.from_numpy(slices)[:, None].repeat(1, 3, 1, 1)
        with torch.no_grad():
            return plain(images)[0].squeeze(3).squeeze(2).numpy()

    return partial(folded, slices), theirs


def similarity(official: Path, folder: Path) -> tuple[Side, Side]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    window, subject = Window(), make_subject(0, 0, size=256, slices=16)
    real = window.normalize(to_slices(window.clip(subject.hu), 256, "ct"))
    noise = np.random.default_rng(0).normal(0, 0.05, real.shape)
    synthetic = np.clip(real + noise, 0, 1).astype(np.float32)
    labels = to_slices(
        np.where(subject.body & (subject.labels == 0), AMOS22.body_id, subject.labels), 256, "labels"
    )
    geometry = stacked_geometry(Geometry(subject.hu.shape, subject.affine), 256)
    pair = Pair("subject", real, synthetic, labels, AMOS22, window, geometry)
    as_ours = partial(
        structural_similarity, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )

    def ours() -> list[list[float]]:
        ssim, psnr = SSIM().measure(pair), PSNR().measure(pair)
        return [ssim["whole"], psnr["whole"]]

    def theirs() -> list[tuple[float, ...]]:
        found = []
        for one, other in zip(real, synthetic, strict=True):
            similarity = as_ours(one.astype(np.float64), other.astype(np.float64))
            found.append((similarity, peak_signal_noise_ratio(one, other, data_range=1)))
        return list(zip(*found, strict=True))

    return ours, theirs


def workers(official: Path, folder: Path) -> tuple[Side, Side]:
    """``ctsynth score`` with two workers and with one process, by the clock; each measures all anew."""
    samples = folder / "samples"
    _volumes(folder / "store", samples, 16)
    words = ["score", samples, "--data", folder / "store", "--metrics", "ssim,hu", "--overwrite", "--workers"]

    def seconds(count: int) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ctsynth", *words, str(count)], check=True, capture_output=True)
        return time.perf_counter() - began

    return partial(seconds, 2), partial(seconds, 1)


def _volumes(root: Path, samples: Path, count: int) -> None:
    """A store of one phantom with other noise for each subject, and a noisy volume of each."""
    settings = {"size": 256, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    subject, names = make_subject(0, 0, size=256, slices=60), [f"subject_{number}" for number in range(count)]
    geometry = Geometry(subject.hu.shape, subject.affine)
    labels = np.where(subject.body & (subject.labels == 0), AMOS22.body_id, subject.labels).astype(np.uint8)
    mask = to_slices(labels, 256, "labels")
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        ct, synthetic = (
            to_slices(Window().clip(subject.hu + rng.integers(-20, 21, subject.hu.shape)), 256, "ct")
            for _ in range(2)
        )
        write_subject(root, {"name": name, "split": "test", "geometry": geometry.as_json()}, settings, ct, mask)
        Volume(stack(synthetic), stacked_geometry(geometry, 256)).save(samples / f"{name}.nii.gz")
    write_manifest(root, settings, [("test", name) for name in names])


ROWS = (
    Row(
        name="frechet",
        quantity="Fréchet distance of 2 x 3,000 features of 2,048",
        peer="pytorch-fid",
        hold=0.12,
        setup=partial(distance, 3000, FEATURES),
        within=1e-6,
        small=partial(distance, 300, 64),
    ),
    Row(
        name="frechet-few",
        quantity="Fréchet distance of 2 x 500 features of 2,048",
        peer="pytorch-fid",
        hold=0.005,
        setup=partial(distance, 500, FEATURES),
        within=1e-4,
        small=partial(distance, 50, 64),
    ),
    Row(
        name="inception",
        quantity="Inception features of 4 slices of 256 x 256",
        peer="pytorch-fid",
        hold=0.70,
        setup=inception,
        within=1e-5,
    ),
    Row(
        name="similarity",
        quantity="SSIM and PSNR of 16 slices of 256 x 256; ours also those of the body",
        peer="scikit-image",
        hold=1.00,
        setup=similarity,
        within=1e-6,
    ),
    Row(
        name="workers",
        quantity="scoring 16 subjects of 60 slices of 256 x 256 by SSIM and HU, by the clock: two workers",
        peer="one process",
        hold=None,
        setup=workers,
        returned=True,
    ),
)
