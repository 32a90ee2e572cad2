"""Denoising x + sigma n at noise levels sigma (Karras et al. 2022, "EDM"): its scales, and how volumes are drawn.

A denoiser tells E[x | x + sigma n]. Each slice of a batch has a sigma of its own: so slices that are known already
can be held while the others are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LOWEST, HIGHEST = 0.002, 80.0
"""The noise levels that the timestep embedding covers (Karras et al. 2022, Table 1)."""

FIRST, LAST = 20.0, 0.02
"""The noise levels that sampling begins and ends at.

With exact denoisers of Gaussian mixtures 10 evaluations between them are nearer to the truth than between 80 and
0.004; the data's deviation is 0.5.
"""


class Denoiser(Protocol):
    """E[x | x + sigma n]."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The slices (B, C, H, W) beneath noisy ones (B, C, H, W) at levels (B,)."""


@dataclass(frozen=True, slots=True)
class Scales:
    """What makes inputs, outputs and losses of the network alike at all levels (Karras et al. 2022, Table 1).

    D(x; sigma) = c_skip x + c_out F(c_in x; sigma), and the loss is lambda |D - y|^2.

    Args:
        data: The data's standard deviation; of real CT in [-1, 1] 0.46 and 0.54.
    """

    data: float = 0.5

    def skip(self, sigma: Tensor) -> Tensor:
        """c_skip, the share of the noisy slice."""
        return self.data**2 / (sigma**2 + self.data**2)

    def output(self, sigma: Tensor) -> Tensor:
        """c_out, of the network's output."""
        return sigma * self.data / (sigma**2 + self.data**2).sqrt()

    def input(self, sigma: Tensor) -> Tensor:
        """c_in, of the network's input: its variance becomes 1."""
        return 1 / (sigma**2 + self.data**2).sqrt()

    def weight(self, sigma: Tensor) -> Tensor:
        """lambda, of the loss: 1 / c_out^2."""
        return (sigma**2 + self.data**2) / (sigma * self.data) ** 2


def timesteps(sigma: Tensor) -> Tensor:
    """The logarithm of sigma as ``timestep_embedding`` expects it: 0 at ``LOWEST``, 1000 at ``HIGHEST``."""
    return (sigma / LOWEST).log() * (1000 / math.log(HIGHEST / LOWEST))


def levels(steps: int) -> NDArray[np.float64]:
    """Falling noise levels, even in ln sigma, from ``FIRST`` to ``LAST``; one step alone is at ``FIRST``."""
    return np.geomspace(FIRST, LAST, steps)


@torch.no_grad()
def dpm_solver_pp(
    denoise: Denoiser,
    noise: Tensor,
    sigmas: NDArray[np.float64],
    held: Tensor | None = None,
    is_held: Tensor | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2) in sigma: one evaluation a level, the last one its result.

    Args:
        denoise: Tells the slices beneath the noise.
        noise: (B, C, H, W), standard normal.
        sigmas: Falling; of ``levels``.
        held: (B, C, H, W), slices that are known up to noise of ``LAST``.
        is_held: (B,) bool, which of them stay as they are.
    """
    if held is None or is_held is None:
        held, is_held = noise, torch.zeros(len(noise), dtype=torch.bool, device=noise.device)
    stays = is_held.view(-1, *[1] * (noise.ndim - 1))
    x, before, h_before = noise * sigmas[0], noise, math.inf
    for i, sigma in enumerate(sigmas):
        x = torch.where(stays, held, x)
        level = torch.full((len(x),), float(sigma), device=x.device, dtype=x.dtype)
        x0 = denoise(x, torch.where(is_held, LAST, level))
        if i + 1 == len(sigmas):
            break
        h = math.log(sigma / sigmas[i + 1])
        direction = x0 + h / (2 * h_before) * (x0 - before)  # x0 at first: h_before is infinite
        x = float(sigmas[i + 1] / sigma) * x - math.expm1(-h) * direction
        before, h_before = x0, h
    return x0


@dataclass(frozen=True, slots=True)
class Known:
    """Slices of a volume that are not to be drawn.

    Shapes:
        slices: (Z, C, H, W); what is not known may be anything.
        where: (Z,) bool.
    """

    slices: Tensor
    where: Tensor


def chunks(length: int, chunk: int, overlap: int) -> list[range]:
    """The slices that are in the network together: all, or runs of ``chunk`` that begin ``overlap`` before an end.

    Raises:
        ValueError: A chunk would be no longer than the overlap.
    """
    if chunk <= overlap:
        raise ValueError(f"chunk ({chunk}) must be more than overlap ({overlap})")
    starts = range(0, max(1, length - overlap), chunk - overlap)
    return [range(start, min(start + chunk, length)) for start in starts]


def draw_volume(
    denoiser: Callable[[range], Denoiser],
    noise: Tensor,
    again: Tensor,
    sigmas: NDArray[np.float64],
    parts: list[range],
    known: Known | None = None,
) -> Tensor:
    """Draws all slices of a volume together, or chunk after chunk, each given what is known of its slices by then.

    Args:
        denoiser: Gives the denoiser for the slices of a range.
        noise: (Z, C, H, W), standard normal, white along z.
        again: The same once more; known slices are shown under noise of ``LAST``, as slices of that level are in
            training.
        sigmas: Noise levels, from ``levels``.
        parts: Ranges of slices, from ``chunks``.
        known: Slices that are given; they are returned as they are.
    """
    drawn = torch.zeros_like(noise) if known is None else known.slices.to(noise).clone()
    is_there = torch.zeros(len(noise), dtype=torch.bool, device=noise.device)
    if known is not None:
        is_there |= known.where.to(noise.device)
    for part in parts:
        some = slice(part.start, part.stop)
        given = is_there[some]
        if given.all():
            continue
        held = drawn[some] + LAST * again[some]
        made = dpm_solver_pp(denoiser(part), noise[some], sigmas, held, given)
        drawn[some] = torch.where(given.view(-1, *[1] * (noise.ndim - 1)), drawn[some], made)
        is_there[some] = True
    return drawn
