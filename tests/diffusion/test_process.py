import math

import numpy as np
import pytest
import torch

from ctsynth.diffusion.process import GaussianDiffusion, Posterior, _discretized_log_likelihood
from ctsynth.diffusion.schedule import cosine_schedule, linear_schedule


def test_learned_range_half_way_is_the_geometric_mean_of_the_two_variances():
    schedule = linear_schedule(1000)
    process = GaussianDiffusion(schedule)
    output = torch.zeros(1, 2, 1, 1, dtype=torch.float64)  # v = 0
    p, _ = process.p_mean_variance(output, torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.tensor([1]))
    variance = p.log_variance.exp().item()
    assert variance == pytest.approx(8.087e-5, rel=1e-3)
    assert variance == pytest.approx(np.sqrt(schedule.betas[1] * schedule.posterior_variance[1]))


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_target_predicts_x0_exactly(make, prediction):
    process = GaussianDiffusion(make(1000), prediction)
    rng = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1000, 1, 2, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    timesteps = torch.arange(1000)
    x_t = process.q_sample(x0, timesteps, noise)
    torch.testing.assert_close(process.predict_x0(process.target(x0, timesteps, noise), x_t, timesteps), x0)


def test_the_bound_does_not_teach_the_prediction():
    process = GaussianDiffusion(linear_schedule(1000))
    output = torch.randn(4, 2, 3, 3, requires_grad=True)
    x0, noise, timesteps = torch.zeros(4, 1, 3, 3), torch.randn(4, 1, 3, 3), torch.tensor([0, 1, 500, 999])
    losses = process.training_losses(output, x0, process.q_sample(x0, timesteps, noise), timesteps, noise)
    (gradient,) = torch.autograd.grad(losses["vb"].sum(), output)
    assert gradient[:, :1].abs().max() == 0
    assert gradient[:, 1:].abs().max() > 0


@pytest.mark.parametrize("count", [100, 1000, 4000])
def test_the_bound_weighs_a_thousandth_whatever_the_number_of_timesteps(count):
    """Nichol & Dhariwal 2021, Eq. 16: L_simple + 0.001 L_vlb, its terms summed over t; the loss draws one."""
    process = GaussianDiffusion(linear_schedule(count))
    rng = torch.Generator().manual_seed(0)
    output = torch.randn(count, 2, 2, 2, generator=rng, dtype=torch.float64)
    x0, noise = (torch.randn(count, 1, 2, 2, generator=rng, dtype=torch.float64).clamp(-1, 1) for _ in range(2))
    timesteps = torch.arange(count)
    x_t = process.q_sample(x0, timesteps, noise)
    losses = process.training_losses(output, x0, x_t, timesteps, noise)
    bound = process.vb_terms_bpd(output, x0, x_t, timesteps).sum()
    torch.testing.assert_close(losses["vb"].mean(), 0.001 * bound)
    torch.testing.assert_close(losses["mse"], (noise - output[:, :1]).square().mean((1, 2, 3)))
    torch.testing.assert_close(losses["loss"], losses["mse"] + losses["vb"])


def test_no_value_is_less_likely_than_1e_12():
    """improved-diffusion's floor, in a bin between the ends and in both open ones."""
    x, mean = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1.0, 1.0, -1.0])
    narrow = torch.full((3,), -20.0)
    found = _discretized_log_likelihood(x, Posterior(mean, narrow))
    torch.testing.assert_close(found, torch.full((3,), math.log(1e-12)))
