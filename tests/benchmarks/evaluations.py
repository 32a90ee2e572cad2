"""How few evaluations of a network do: on a density whose score is known, so that no network's error comes in.

Voxels of known organs, as a label map tells a conditional model, are normal around the organ's HU. All samplers
are then affine in the noise and what they draw is normal, so that its error is known without drawing any.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ctsynth.data.window import Window
from ctsynth.diffusion.samplers import SAMPLERS, Sampler
from ctsynth.diffusion.schedule import linear_schedule

from .row import Row, Side, checkout
from .steps import ABSENT

SCHEDULE = linear_schedule(1000)
HALF_WIDTH = Window().width / 2
MEANS = (
    torch.tensor([-100.0, 10.0, 30.0, 55.0, 110.0], dtype=torch.float64) / HALF_WIDTH - Window().level / HALF_WIDTH
)
DEVIATIONS = torch.tensor([15.0, 8.0, 30.0, 12.0, 12.0], dtype=torch.float64) / HALF_WIDTH
"""Fat, urine, bowel, muscle and liver, in a network's units."""

PROBES = torch.stack([torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)])
"""Two noises, by which an affine map is known: (2, voxels)."""

ROUNDING = 0.5
"""HU: files hold whole ones."""

COUNTS = (5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100)


def x0(x: Tensor, timestep: int) -> Tensor:
    """E[x_0 | x_t]."""
    a = SCHEDULE.alphas_cumprod[timestep]
    gain = np.sqrt(a) * DEVIATIONS**2 / (a * DEVIATIONS**2 + 1 - a)
    return MEANS + gain * (x - np.sqrt(a) * MEANS)


def error(mean: Tensor, deviation: Tensor) -> float:
    """Fréchet distance of what is drawn from the density, HU, root mean square over the voxels."""
    return HALF_WIDTH * float(((mean - MEANS) ** 2 + (deviation - DEVIATIONS) ** 2).mean().sqrt())


def of_probes(drawn: Tensor) -> float:
    return error(drawn[0], (drawn[1] - drawn[0]).abs())


def error_of_default(evaluations: int) -> float:
    sampler = SAMPLERS[Sampler().name]
    timesteps = sampler.spacing(SCHEDULE, evaluations)
    return of_probes(
        sampler.run(lambda x, t: (x0(x, int(t[0])), None), SCHEDULE, PROBES, timesteps, draw=None, clip=False)
    )


def improved_diffusion(official: Path, respacing: str = "", **options: bool):
    with checkout(official, "improved-diffusion", ABSENT):
        return import_module("improved_diffusion.script_util").create_gaussian_diffusion(
            steps=1000, predict_xstart=True, timestep_respacing=respacing, **options
        )


def model(x: Tensor, timesteps: Tensor) -> Tensor:
    return x0(x, int(timesteps[0]))


def error_of_ddim(official: Path) -> float:
    process = improved_diffusion(official, "ddim250")
    return of_probes(
        process.ddim_sample_loop(model, PROBES.shape, noise=PROBES, clip_denoised=False, device="cpu")
    )


def error_of_ancestral(official: Path) -> float:
    """With the better of its two fixed variances; each step's mean and variance are its own."""
    found = []
    for small in (False, True):
        process = improved_diffusion(official, sigma_small=small)
        mean, variance = torch.zeros_like(MEANS), torch.ones_like(MEANS)
        for timestep in reversed(range(1000)):
            step = process.p_mean_variance(model, PROBES, torch.full((2,), timestep), clip_denoised=False)
            shift, slope = step["mean"][0], step["mean"][1] - step["mean"][0]
            mean = shift + slope * mean
            variance = slope**2 * variance + (step["variance"][0] if timestep else 0)
        found.append(error(mean, variance.sqrt()))
    return min(found)


def fewest(error_of_peer, evaluations: int, official: Path, folder: Path) -> tuple[Side, Side]:
    """Ours: from how many evaluations on the error is no more than the peer's, or than a file's rounding."""
    bound = max(error_of_peer(official), ROUNDING)
    good = [error_of_default(count) <= bound for count in COUNTS]
    enough = [count for n, count in enumerate(COUNTS) if all(good[n:])]
    return lambda: min(enough), lambda: evaluations


def _row(name: str, peer: str, hold: float, setup) -> Row:
    quantity = "evaluations of dpm++ to that peer's error on voxels of known organs, or to 0.5 HU"
    return Row(name=name, quantity=quantity, peer=peer, hold=hold, setup=setup, unit="evaluations", returned=True)


ROWS = (
    _row(
        "ancestral",
        "improved-diffusion: ancestral, fixed variance",
        0.02,
        partial(fewest, error_of_ancestral, 1000),
    ),
    _row("ddim", "improved-diffusion: DDIM", 0.08, partial(fewest, error_of_ddim, 250)),
)
