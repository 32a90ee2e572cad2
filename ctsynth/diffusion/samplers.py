"""From noise to a sample, given a denoiser: each sampler with the timesteps that suit it.

A denoiser estimates x_0 from x_t, and hides what its network predicts and which condition it reads.
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

from ctsynth.diffusion.schedule import NoiseSchedule, even_timesteps, learned_range, log_snr_timesteps
from ctsynth.errors import UsageError

Draw = Callable[[int], Tensor]
"""Standard normal noise like x for the step that starts at this timestep."""


class Denoiser(Protocol):
    """E[x_0 | x_t], unclipped, and the variance's interpolation v in [-1, 1], or None where it is not learned."""

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        """x_0 and v, each (B, C, H, W), at x_t (B, C, H, W) and timesteps (B,)."""


def _x0(denoise: Denoiser, x: Tensor, timestep: int, clip: bool) -> tuple[Tensor, Tensor | None]:
    x0, v = denoise(x, torch.full((x.shape[0],), timestep, device=x.device, dtype=torch.int64))
    return (x0.clamp(-1, 1) if clip else x0), v


@torch.no_grad()
def ancestral(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    timesteps: NDArray[np.int64],
    *,
    draw: Draw,
    clip: bool = True,
) -> Tensor:
    """Ho et al. 2020, Algorithm 2, with respaced betas and the learned variance (Nichol & Dhariwal 2021, Sec. 4).

    Args:
        denoise: Estimates x_0.
        schedule: The process that the denoiser was trained on.
        noise: x_T, (B, C, H, W).
        timesteps: Falling; of ``even_timesteps``.
        draw: Gives each step its noise.
        clip: Clamp x_0 to [-1, 1] at each step.
    """
    spaced = schedule.respaced(timesteps[::-1])
    x = noise
    for i, timestep in enumerate(timesteps):
        s = len(timesteps) - 1 - i
        x0, v = _x0(denoise, x, int(timestep), clip)
        mean = float(spaced.posterior_mean_x0[s]) * x0 + float(spaced.posterior_mean_x_t[s]) * x
        if s == 0:
            return mean
        low, high = float(spaced.posterior_log_variance_clipped[s]), float(np.log(spaced.betas[s]))
        log_variance = torch.full_like(x, low) if v is None else learned_range(v, low, high)
        x = mean + torch.exp(0.5 * log_variance) * draw(int(timestep))
    return x


@torch.no_grad()
def ddim(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    timesteps: NDArray[np.int64],
    *,
    draw: Draw,
    clip: bool = True,
    eta: float = 0.0,
) -> Tensor:
    """Song et al. 2021, Eq. 12: deterministic at ``eta`` 0, where ``draw`` is never called.

    The noise direction is derived from the clipped x_0, as in improved-diffusion. Arguments as in ``ancestral``.
    """
    x = noise
    for i, timestep in enumerate(timesteps):
        a = float(schedule.alphas_cumprod[timestep])
        a_next = float(schedule.alphas_cumprod[timesteps[i + 1]]) if i + 1 < len(timesteps) else 1.0
        x0, _ = _x0(denoise, x, int(timestep), clip)
        epsilon = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        sigma = eta * math.sqrt((1 - a_next) / (1 - a)) * math.sqrt(1 - a / a_next)
        x = math.sqrt(a_next) * x0 + math.sqrt(1 - a_next - sigma**2) * epsilon
        if sigma > 0:
            x = x + sigma * draw(int(timestep))
    return x


@torch.no_grad()
def dpm_solver_pp(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    timesteps: NDArray[np.int64],
    *,
    draw: Draw,
    clip: bool = True,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): second order, one evaluation a step, deterministic.

    The last step, from timestep 0, goes to its x_0. Arguments as in ``ancestral``; timesteps of
    ``log_snr_timesteps``, because its extrapolation overshoots where neighboring steps differ much in log-SNR.
    """
    x, before, h_before = noise, None, 0.0
    for i, timestep in enumerate(timesteps):
        x0, _ = _x0(denoise, x, int(timestep), clip)
        if i + 1 == len(timesteps):
            return x0
        following = timesteps[i + 1]
        h = float(schedule.log_snr[following] - schedule.log_snr[timestep])
        # D_i = (1 + 1 / (2 r_i)) x0_i - 1 / (2 r_i) x0_(i-1), with r_i = h_(i-1) / h_i
        direction = x0 if before is None else x0 + h / (2 * h_before) * (x0 - before)
        sigma, sigma_next = np.sqrt(1 - schedule.alphas_cumprod[[timestep, following]])
        signal_next = np.sqrt(schedule.alphas_cumprod[following])
        # x_i = sigma_i / sigma_(i-1) x_(i-1) - alpha_i (exp(-h_i) - 1) D_i
        x = float(sigma_next / sigma) * x - float(signal_next * np.expm1(-h)) * direction
        before, h_before = x0, h
    return x


@dataclass(frozen=True, slots=True)
class Solver:
    """The function behind a sampler, and the timesteps that it owns.

    Args:
        run: The function.
        spacing: Chooses its timesteps.
        title: A few words for people.
    """

    run: Callable[..., Tensor]
    spacing: Callable[[NoiseSchedule, int], NDArray[np.int64]]
    title: str


SAMPLERS = {
    "dpm++": Solver(dpm_solver_pp, log_snr_timesteps, "DPM-Solver++(2M), even in log-SNR"),
    "ddim": Solver(ddim, even_timesteps, "DDIM, even in t"),
    "ddpm": Solver(ancestral, even_timesteps, "ancestral, respaced, learned variance"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Which sampler, and how many evaluations of the network a slice."""

    name: str = "dpm++"
    steps: int = 20
    eta: float = 0.0
    """DDIM only: 0 is deterministic, 1 as noisy as ancestral sampling."""
    guidance: float = 1.0
    """Scale s of classifier-free guidance, null + s (prediction - null), which the method's denoiser applies.

    1 is the model as it is, 0 one without a label map; above 1 the slice follows its map more closely, at the
    price of variety and of twice the time. SDM's is 1.5.
    """

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise UsageError(f"no sampler is called {self.name!r}", hint=f"there are: {', '.join(SAMPLERS)}")
        if self.steps < 1:
            raise UsageError(f"`steps` must be at least 1, not {self.steps}")
        if not 0 <= self.eta <= 1:
            raise UsageError(f"`eta` must be within 0..1, not {self.eta:g}")
        if self.eta and self.name != "ddim":
            raise UsageError(f"`eta` is DDIM's; {self.name} does not take it", hint="say `sampler` ddim")
        if not 0 <= self.guidance < math.inf:
            raise UsageError(f"`guidance` must be 0 or more, not {self.guidance:g}")

    def check(self, schedule: NoiseSchedule) -> None:
        """Refuses more steps than the process has.

        Raises:
            UsageError: There are more.
        """
        if self.steps > schedule.num_timesteps:
            raise UsageError(
                f"`steps` {self.steps} is more than the {schedule.num_timesteps} the model was trained on"
            )

    def __call__(self, denoise: Denoiser, schedule: NoiseSchedule, noise: Tensor, draw: Draw) -> Tensor:
        """Runs the sampler on its own timesteps, with x_0 clipped."""
        self.check(schedule)
        solver = SAMPLERS[self.name]
        options = {"eta": self.eta} if self.name == "ddim" else {}
        return solver.run(denoise, schedule, noise, solver.spacing(schedule, self.steps), draw=draw, **options)
