"""The Gaussian diffusion process: noising, posterior, learned-range variance, hybrid loss.

Equal to improved-diffusion's ``GaussianDiffusion`` with LEARNED_RANGE variance and (RESCALED_)MSE loss, whose two
losses are the same at T = 1000. The network's output has twice the slice's channels: the prediction, then ``v``,
which interpolates the log-variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ctsynth.diffusion.schedule import NoiseSchedule, learned_range

Prediction = Literal["epsilon", "v"]


@dataclass(frozen=True, slots=True)
class Posterior:
    """A diagonal Gaussian over x_{t-1}; every tensor broadcasts against (B, C, H, W)."""

    mean: Tensor
    log_variance: Tensor


class GaussianDiffusion:
    """A noise schedule together with what the network predicts.

    Args:
        schedule: The forward process.
        prediction: ``epsilon``, the noise (Ho et al. 2020; the paper), or ``v`` = sqrt(a) epsilon
            - sqrt(1 - a) x_0 (Salimans & Ho 2022).
    """

    def __init__(self, schedule: NoiseSchedule, prediction: Prediction = "epsilon") -> None:
        self.schedule = schedule
        self.prediction = prediction
        a = schedule.alphas_cumprod
        self._columns = {
            "signal": np.sqrt(a),
            "noise": np.sqrt(1 - a),
            "inverse_signal": np.sqrt(1 / a),
            "inverse_ratio": np.sqrt(1 / a - 1),
            "posterior_x0": schedule.posterior_mean_x0,
            "posterior_x_t": schedule.posterior_mean_x_t,
            "min_log_variance": schedule.posterior_log_variance_clipped,
            "max_log_variance": np.log(schedule.betas),
        }
        self._tables: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def _at(self, name: str, timesteps: Tensor, like: Tensor) -> Tensor:
        """The column's entries at the timesteps: (B, 1, 1, 1) for ``like`` (B, C, H, W)."""
        place = (like.device, like.dtype)
        if place not in self._tables:
            self._tables[place] = {
                key: torch.tensor(column, device=like.device, dtype=like.dtype)
                for key, column in self._columns.items()
            }
        return self._tables[place][name][timesteps].view(-1, *[1] * (like.ndim - 1))

    def q_sample(self, x0: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """x_t ~ q(x_t | x_0) for the given standard normal noise (Ho et al., Eq. 4)."""
        return self._at("signal", timesteps, x0) * x0 + self._at("noise", timesteps, x0) * noise

    def q_posterior(self, x0: Tensor, x_t: Tensor, timesteps: Tensor) -> Posterior:
        """q(x_{t-1} | x_t, x_0) (Ho et al., Eq. 7); the log-variance is clipped at t = 0."""
        return Posterior(
            self._at("posterior_x0", timesteps, x_t) * x0 + self._at("posterior_x_t", timesteps, x_t) * x_t,
            self._at("min_log_variance", timesteps, x_t),
        )

    def target(self, x0: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """What the network should predict."""
        if self.prediction == "epsilon":
            return noise
        return self._at("signal", timesteps, x0) * noise - self._at("noise", timesteps, x0) * x0

    def predict_x0(self, predicted: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """x_0 from the network's prediction at x_t."""
        if self.prediction == "epsilon":
            scaled = self._at("inverse_signal", timesteps, x_t) * x_t
            return scaled - self._at("inverse_ratio", timesteps, x_t) * predicted
        return self._at("signal", timesteps, x_t) * x_t - self._at("noise", timesteps, x_t) * predicted

    def p_mean_variance(
        self, output: Tensor, x_t: Tensor, timesteps: Tensor, *, clip: bool = True
    ) -> tuple[Posterior, Tensor]:
        """p(x_{t-1} | x_t) and the x_0 it aims at, for an output of the network (Nichol & Dhariwal 2021, Eq. 15).

        Args:
            output: (B, 2 C, H, W): prediction, then v, which is 1 at the variance beta and -1 at the posterior's.
            x_t: (B, C, H, W).
            timesteps: (B,) int64 in [0, T).
            clip: Clamp x_0 to [-1, 1]: on in sampling, off in the loss.
        """
        predicted, v = output.chunk(2, dim=1)
        x0 = self.predict_x0(predicted, x_t, timesteps)
        if clip:
            x0 = x0.clamp(-1, 1)
        low, high = (self._at(f"{end}_log_variance", timesteps, x_t) for end in ("min", "max"))
        log_variance = learned_range(v, low, high)
        return Posterior(self.q_posterior(x0, x_t, timesteps).mean, log_variance), x0

    def vb_terms_bpd(
        self, output: Tensor, x0: Tensor, x_t: Tensor, timesteps: Tensor, *, clip: bool = False
    ) -> Tensor:
        """One term of the variational bound a sample, in bits a pixel: (B,).

        KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)); at t = 0 the likelihood of x_0 under p, discretized to
        8 bits.
        """
        truth = self.q_posterior(x0, x_t, timesteps)
        model, _ = self.p_mean_variance(output, x_t, timesteps, clip=clip)
        kl = _normal_kl(truth, model)
        likelihood = _discretized_log_likelihood(x0, model)
        bits = torch.where(timesteps.view(-1, *[1] * (x0.ndim - 1)) == 0, -likelihood, kl) / math.log(2)
        return bits.flatten(1).mean(1)

    def training_losses(
        self, output: Tensor, x0: Tensor, x_t: Tensor, timesteps: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """The hybrid loss (Nichol & Dhariwal 2021, Eq. 16) a sample: ``loss`` = ``mse`` + ``vb``, each (B,).

        ``vb`` teaches the variance only: the prediction enters it detached. Its weight is T / 1000, which with the
        bound per timestep is the paper's 0.001 L_vlb at T = 1000.
        """
        predicted, v = output.chunk(2, dim=1)
        mse = (self.target(x0, timesteps, noise) - predicted).square().flatten(1).mean(1)
        frozen = torch.cat([predicted.detach(), v], dim=1)
        vb = self.vb_terms_bpd(frozen, x0, x_t, timesteps) * (self.schedule.num_timesteps / 1000)
        return {"loss": mse + vb, "mse": mse, "vb": vb}


def _normal_kl(p: Posterior, q: Posterior) -> Tensor:
    """KL(p || q) of diagonal Gaussians, in nats an entry."""
    return 0.5 * (
        q.log_variance
        - p.log_variance
        - 1
        + torch.exp(p.log_variance - q.log_variance)
        + (p.mean - q.mean).square() * torch.exp(-q.log_variance)
    )


def _normal_cdf(x: Tensor) -> Tensor:
    """improved-diffusion's tanh approximation of the standard normal's; within 3e-4 of the exact one."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _discretized_log_likelihood(x: Tensor, p: Posterior) -> Tensor:
    """Log p of x in [-1, 1] in bins of 2/255, the outer ones open, in nats an entry (Ho et al. 2020, Eq. 13)."""
    scale = torch.exp(-0.5 * p.log_variance)
    upper = _normal_cdf(scale * (x - p.mean + 1 / 255))
    lower = _normal_cdf(scale * (x - p.mean - 1 / 255))
    inside = (upper - lower).clamp(min=1e-12)
    probability = torch.where(
        x < -0.999, upper.clamp(min=1e-12), torch.where(x > 0.999, (1 - lower).clamp(min=1e-12), inside)
    )
    return probability.log()
