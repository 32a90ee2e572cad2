"""Equality with improved-diffusion on fixed tensors.

improved_diffusion.npz was computed once with the official code (openai/improved-diffusion, commit 1bc7bbb,
torch 2.13 on a CPU): linear schedule, T = 1000, EPSILON, LEARNED_RANGE. Tensors are (8, 1, 8, 8) in float32,
random but for x0, which holds -1 and 1 to reach both open bins of the discretized likelihood; `output` is a
random network output of two channels. `unet_output` is UNetModel's for 128 channels, multipliers (1, 2), 2
residual blocks, attention at the second level, 4 heads, scale-shift norm, whose weights were filled by `fill`
below under our names, layer by layer.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ctsynth.diffusion.process import GaussianDiffusion
from ctsynth.diffusion.samplers import SAMPLERS, ddim
from ctsynth.diffusion.schedule import cosine_schedule, even_timesteps, linear_schedule
from ctsynth.networks.unet import UNet


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("improved_diffusion.npz"), allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def process():
    return GaussianDiffusion(linear_schedule(1000), "epsilon")


def close(ours, theirs, rtol=1e-5, atol=1e-6):
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def test_q_sample_and_q_posterior(golden, process):
    x_t = process.q_sample(golden["x0"], golden["timesteps"], golden["noise"])
    close(x_t, golden["x_t"])
    posterior = process.q_posterior(golden["x0"], golden["x_t"], golden["timesteps"])
    close(posterior.mean, golden["posterior_mean"])
    variance = torch.from_numpy(process.schedule.posterior_variance)[golden["timesteps"]]
    close(variance.float(), golden["posterior_variance"])
    close(posterior.log_variance.flatten(), golden["posterior_log_variance"])


@pytest.mark.parametrize(("clip", "name"), [(True, "clipped"), (False, "free")])
def test_p_mean_variance_with_learned_range(golden, process, clip, name):
    p, x0 = process.p_mean_variance(golden["output"], golden["x_t"], golden["timesteps"], clip=clip)
    close(x0, golden[f"p_x0_{name}"])
    close(p.mean, golden[f"p_mean_{name}"])
    close(p.log_variance, golden[f"p_log_variance_{name}"])


@pytest.mark.parametrize(("clip", "name"), [(True, "clipped"), (False, "free")])
def test_vb_terms_bpd(golden, process, clip, name):
    bits = process.vb_terms_bpd(golden["output"], golden["x0"], golden["x_t"], golden["timesteps"], clip=clip)
    late = golden["timesteps"] >= 998  # there float32 itself is only good to 2e-5
    close(bits[~late], golden[f"vb_{name}"][~late])
    close(bits[late], golden[f"vb_{name}"][late], rtol=1e-4)


@pytest.mark.parametrize("loss", ["rescaled_mse", "mse"])  # which agree at T = 1000
def test_training_losses(golden, process, loss):
    arguments = (golden[name] for name in ("output", "x0", "x_t", "timesteps", "noise"))
    for name, term in process.training_losses(*arguments).items():
        close(term, golden[f"{loss}_{name}"], rtol=1e-4 if name == "vb" else 1e-5)


def test_respacing_to_50_steps(golden):
    schedule = linear_schedule(1000)
    timesteps = even_timesteps(schedule, 50)[::-1]
    assert timesteps.tolist() == golden["respaced_timesteps"].tolist()
    np.testing.assert_allclose(schedule.respaced(timesteps).betas, golden["respaced_betas"], rtol=1e-10)


def test_cosine_schedule(golden):
    np.testing.assert_allclose(cosine_schedule(1000).betas, golden["cosine_betas"], rtol=1e-10)


def denoiser(process):
    """What the golden samples were drawn with: epsilon = tanh(x) / 2 + t / 1000, v = 0.2."""

    def denoise(x, timesteps):
        epsilon = 0.5 * torch.tanh(x) + 0.001 * timesteps.view(-1, 1, 1, 1)
        return process.predict_x0(epsilon, x, timesteps), torch.full_like(x, 0.2)

    return denoise


def test_ddim_at_50_steps(golden, process):
    timesteps = even_timesteps(process.schedule, 50)
    end = ddim(denoiser(process), process.schedule, golden["ddim_start"], timesteps, draw=lambda _: 1 / 0)
    close(end, golden["ddim_end"], rtol=1e-4, atol=1e-5)


def test_an_ancestral_step_at_50_steps(golden, process):
    spaced, at = even_timesteps(process.schedule, 50)[::-1], 20
    drawn = {}
    run = SAMPLERS["ddpm"].run
    for noise in (0.0, 1.0):  # a step without noise is its mean, with noise 1 the mean and a standard deviation
        seen = []

        def denoise(x, t, seen=seen):
            seen.append(x.clone())
            return denoiser(process)(x, t)

        run(
            denoise,
            process.schedule,
            golden["ddim_start"],
            spaced[: at + 1][::-1],
            draw=lambda _, n=noise: torch.full((), n),
        )
        drawn[noise] = seen[1]
    close(drawn[0.0], golden["ancestral_mean"])
    deviation = torch.exp(0.5 * golden["ancestral_log_variance"])
    close(drawn[1.0] - drawn[0.0], deviation, rtol=1e-4)


def fill(name, parameter):
    start = sum(map(ord, name))
    wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + start).reshape(parameter.shape)
    if parameter.ndim > 1:
        return (wave / math.sqrt(parameter[0].numel())).float()
    return (0.1 * wave + (1.0 if "norm" in name and name.endswith("weight") else 0.0)).float()


def test_the_u_net_with_the_official_weights(golden):
    net = UNet(5, 2, channels=128, multipliers=(1, 2), res_blocks=2, attention_levels=(1,), heads=4)
    net.load_state_dict({name: fill(name, parameter) for name, parameter in net.state_dict().items()})
    x = torch.sin(torch.arange(2 * 5 * 16 * 16, dtype=torch.float64) * 0.3).reshape(2, 5, 16, 16).float()
    with torch.no_grad():
        # measured with AVX-512 and with no vector instructions: at most 0.14 of this
        close(net(x, torch.tensor([3, 700])), golden["unet_output"], rtol=3e-4, atol=3e-4)
