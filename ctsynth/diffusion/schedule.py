"""How much noise there is at each timestep, and which timesteps a sampler visits. All in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The forward process q(x_t | x_0) = N(sqrt(alphas_cumprod[t]) x_0, (1 - alphas_cumprod[t]) I).

    Names and definitions are those of Ho et al. 2020 and Nichol & Dhariwal 2021; timestep 0 is the least noisy.

    Args:
        betas: (T,) float64, the variance that each forward step adds, within (0, 1).
    """

    betas: Array

    def __post_init__(self) -> None:
        if self.betas.ndim != 1 or not ((self.betas > 0) & (self.betas < 1)).all():
            raise ValueError("betas must be a row of numbers within (0, 1)")

    @property
    def num_timesteps(self) -> int:
        """T, 1000 in the paper."""
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> Array:
        """The product of 1 - beta up to t."""
        return np.cumprod(1 - self.betas, dtype=np.float64)

    @cached_property
    def alphas_cumprod_prev(self) -> Array:
        """The same one step earlier; 1 before the first."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def log_snr(self) -> Array:
        """lambda_t = log(sqrt(alphas_cumprod) / sqrt(1 - alphas_cumprod)), half the log signal-to-noise ratio."""
        return 0.5 * (np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod))

    @cached_property
    def posterior_variance(self) -> Array:
        """The variance of q(x_{t-1} | x_t, x_0), the lower bound of the learned one (Ho et al., Eq. 7)."""
        return self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)

    @cached_property
    def posterior_log_variance_clipped(self) -> Array:
        """Its logarithm; the first entry, which would be log 0, repeats the second."""
        first = self.posterior_variance[1:2] if self.num_timesteps > 1 else self.betas
        return np.log(np.append(first, self.posterior_variance[1:]))

    @cached_property
    def posterior_mean_x0(self) -> Array:
        """The weight of x_0 in the mean of q(x_{t-1} | x_t, x_0)."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)

    @cached_property
    def posterior_mean_x_t(self) -> Array:
        """The weight of x_t in the mean of q(x_{t-1} | x_t, x_0)."""
        return (1 - self.alphas_cumprod_prev) * np.sqrt(1 - self.betas) / (1 - self.alphas_cumprod)

    def respaced(self, timesteps: NDArray[np.int64]) -> NoiseSchedule:
        """The process that visits only these timesteps of this one (Nichol & Dhariwal 2021, Sec. 4).

        Its betas follow from the kept alphas_cumprod. Ancestral sampling with fewer steps is only right with them:
        keeping the old betas leaves most of the noise in (a standard deviation of 0.85 at 50 steps).

        Args:
            timesteps: Rising timesteps of this schedule.
        """
        kept = self.alphas_cumprod[timesteps]
        return NoiseSchedule(1 - kept / np.append(1.0, kept[:-1]))


def learned_range(v: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """The log-variance that a network's v chooses (Nichol & Dhariwal 2021, Eq. 15).

    Args:
        v: 1 at the upper end, -1 at the lower.
        low: The log-variance of q(x_{t-1} | x_t, x_0).
        high: log beta.
    """
    fraction = (v + 1) / 2
    return fraction * high + (1 - fraction) * low


def linear_schedule(num_timesteps: int = 1000) -> NoiseSchedule:
    """Betas rising linearly from 1e-4 to 0.02, scaled to the number of timesteps (Ho et al. 2020; the paper)."""
    scale = 1000 / num_timesteps
    return NoiseSchedule(np.linspace(scale * 1e-4, scale * 0.02, num_timesteps))


def cosine_schedule(num_timesteps: int = 1000) -> NoiseSchedule:
    """Nichol & Dhariwal 2021, Eq. 17: alphas_cumprod falls as a squared cosine; betas at most 0.999."""
    t = np.arange(num_timesteps + 1) / num_timesteps
    alphas_cumprod = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return NoiseSchedule(np.minimum(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.999))


SCHEDULES: dict[str, Callable[[int], NoiseSchedule]] = {"linear": linear_schedule, "cosine": cosine_schedule}


def even_timesteps(schedule: NoiseSchedule, steps: int) -> NDArray[np.int64]:
    """Falling timesteps, even in t from the last to 0; one step alone starts at the last."""
    last = schedule.num_timesteps - 1
    _check(schedule, steps)
    return np.round(np.linspace(last, 0, steps)).astype(np.int64)


def log_snr_timesteps(schedule: NoiseSchedule, steps: int) -> NDArray[np.int64]:
    """Falling timesteps, as even in log-SNR as whole timesteps allow, from the last to 0, none twice."""
    _check(schedule, steps)
    last = schedule.num_timesteps - 1
    wanted = np.linspace(schedule.log_snr[last], schedule.log_snr[0], steps)
    nearest = np.round(np.interp(wanted, schedule.log_snr[::-1], np.arange(last, -1, -1))).astype(np.int64)
    from_zero = np.arange(
        steps - 1, -1, -1
    )  # how far each is from the end: at least that many timesteps lie below
    lifted = np.maximum.accumulate((nearest - from_zero)[::-1])[::-1] + from_zero
    return np.minimum(lifted, last - np.arange(steps))


def _check(schedule: NoiseSchedule, steps: int) -> None:
    if not 1 <= steps <= schedule.num_timesteps:
        raise ValueError(f"steps must be within 1..{schedule.num_timesteps}, not {steps}")
