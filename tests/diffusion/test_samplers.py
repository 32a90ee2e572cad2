"""Samplers on densities whose score is known: no network, no network error."""

import numpy as np
import pytest
import torch

from ctsynth.diffusion.samplers import SAMPLERS, Sampler, ddim, dpm_solver_pp
from ctsynth.diffusion.schedule import cosine_schedule, even_timesteps, linear_schedule, log_snr_timesteps
from ctsynth.errors import UsageError

MEAN, STD = 0.3, 0.2


def gaussian_denoiser(schedule, steps_of=None):
    """The exact E[x_0 | x_t] for x_0 ~ N(MEAN, STD^2), and the v whose variance is that of q(x_{t-1} | x_t)."""
    spaced = schedule.respaced(steps_of[::-1]) if steps_of is not None else schedule
    place = {int(t): n for n, t in enumerate(steps_of[::-1])} if steps_of is not None else {}

    def denoise(x, timesteps):
        t = int(timesteps[0])
        a = schedule.alphas_cumprod[t]
        gain = np.sqrt(a) * STD**2 / (a * STD**2 + 1 - a)
        left = STD**2 * (1 - a) / (a * STD**2 + 1 - a)  # Var[x_0 | x_t]
        s = place.get(t, t)
        low, high = spaced.posterior_log_variance_clipped[s], np.log(spaced.betas[s])
        exact = np.log(spaced.posterior_variance[s] + spaced.posterior_mean_x0[s] ** 2 * left + 1e-30)
        v = 2 * (exact - low) / (high - low) - 1 if s else 0.0
        return MEAN + gain * (x - np.sqrt(a) * MEAN), torch.full_like(x, v)

    return denoise


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
@pytest.mark.parametrize(
    ("name", "steps"), [("ddpm", 1000), ("ddpm", 50), ("ddim", 200), ("dpm++", 20), ("dpm++", 50)]
)
def test_a_sampler_recovers_the_gaussian_it_was_given(make, name, steps):
    schedule, sampler = make(1000), SAMPLERS[name]
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, generator=rng, dtype=torch.float64)
    before = noise.clone()
    timesteps = sampler.spacing(schedule, steps)
    kept = timesteps.copy()

    def draw(_):
        return torch.randn(noise.shape, generator=rng, dtype=torch.float64)

    x = sampler.run(gaussian_denoiser(schedule, timesteps), schedule, noise, timesteps, draw=draw, clip=False)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert x.std().item() == pytest.approx(STD, abs=0.01)
    assert torch.equal(noise, before), "a sampler never mutates its inputs"
    assert (timesteps == kept).all()


WEIGHTS, MEANS, DEVIATIONS = np.array([0.3, 0.4, 0.3]), np.array([-2.0, 0.0, 2.0]), np.array([0.8, 0.7, 0.8])


def mixture_denoiser(schedule):
    """The exact E[x_0 | x_t] for a mixture of three Gaussians."""
    weights, means, variances = (torch.tensor(row) for row in (WEIGHTS, MEANS, DEVIATIONS**2))

    def denoise(x, timesteps):
        a = schedule.alphas_cumprod[int(timesteps[0])]
        spread = a * variances + 1 - a
        off = x - np.sqrt(a) * means
        share = torch.softmax(weights.log() - 0.5 * spread.log() - 0.5 * off**2 / spread, dim=-1)
        return (share * (means + np.sqrt(a) * variances / spread * off)).sum(-1, keepdim=True), None

    return denoise


def negative_log_likelihood(x):
    density = WEIGHTS / np.sqrt(2 * np.pi) / DEVIATIONS * np.exp(-0.5 * ((x.numpy() - MEANS) / DEVIATIONS) ** 2)
    return -np.log(density.sum(-1)).mean()


def test_dpm_solver_in_20_steps_is_as_likely_as_ddim_in_1000():
    schedule = linear_schedule(1000)
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = []
    for run, timesteps in (
        (ddim, even_timesteps(schedule, 1000)),
        (dpm_solver_pp, log_snr_timesteps(schedule, 20)),
        (dpm_solver_pp, even_timesteps(schedule, 20)),
    ):
        x = run(mixture_denoiser(schedule), schedule, noise, timesteps, draw=lambda _: None, clip=False)
        scores.append(negative_log_likelihood(x))
    reference, even_in_log_snr, even_in_t = scores
    assert even_in_log_snr == pytest.approx(reference, rel=0.01)
    assert even_in_t != pytest.approx(reference, rel=0.01)  # which is why each sampler owns its spacing


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
@pytest.mark.parametrize("spacing", [even_timesteps, log_snr_timesteps])
@pytest.mark.parametrize("steps", [2, 3, 20, 50, 250, 999, 1000])
def test_spacings_fall_from_the_last_timestep_to_0_without_repeats(make, spacing, steps):
    timesteps = spacing(make(1000), steps)
    assert len(timesteps) == steps
    assert timesteps[0] == 999
    assert timesteps[-1] == 0
    assert (np.diff(timesteps) < 0).all()


@pytest.mark.parametrize("spacing", [even_timesteps, log_snr_timesteps])
def test_one_step_starts_at_the_last_timestep_and_none_or_too_many_are_refused(spacing):
    schedule = linear_schedule(100)
    assert spacing(schedule, 1).tolist() == [99]
    assert spacing(schedule, 100).tolist() == list(range(99, -1, -1))
    for steps in (0, 101):
        with pytest.raises(ValueError, match=rf"within 1\.\.100, not {steps}"):
            spacing(schedule, steps)


def test_log_snr_spacing_is_even_in_log_snr_to_half_a_timestep():
    schedule = linear_schedule(1000)
    timesteps = log_snr_timesteps(schedule, 15)
    steps = np.diff(schedule.log_snr[timesteps])
    assert steps.max() / steps.min() < 1.25
    even = np.linspace(schedule.log_snr[999], schedule.log_snr[0], 15)
    exact = np.interp(even, schedule.log_snr[::-1], np.arange(999, -1, -1))
    assert np.abs(timesteps - exact).max() <= 0.5


def test_ddim_with_eta_1_is_ancestral_with_the_posterior_variance():
    schedule = linear_schedule(1000)
    timesteps = even_timesteps(schedule, 50)
    noise = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def denoise(x, t):
        return gaussian_denoiser(schedule)(x, t)[0], None

    def draw(t):
        return torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(t))

    ancestral = SAMPLERS["ddpm"].run(denoise, schedule, noise, timesteps, draw=draw, clip=False)
    stochastic = ddim(denoise, schedule, noise, timesteps, draw=draw, clip=False, eta=1.0)
    torch.testing.assert_close(ancestral, stochastic, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_x_0_is_clipped_to_the_pictures_range_at_every_step(name):
    schedule = linear_schedule(1000)
    noise = torch.randn(50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def drawn(bound):
        def denoise(x, timesteps):
            return (3 * torch.sin(7 * x)).clamp(-bound, bound), torch.zeros_like(x)

        return Sampler(name=name, steps=10)(denoise, schedule, noise, lambda _: torch.ones_like(noise))

    ends = drawn(bound=3)  # x_0 beyond the range is no other than its end
    assert torch.equal(ends, drawn(bound=1))
    assert ends.abs().max() <= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_denoiser_is_given_the_timestep_of_each_item(name):
    schedule, seen = linear_schedule(100), []

    def denoise(x, timesteps):
        seen.append(timesteps.tolist())
        return 0.5 * x, None

    Sampler(name=name, steps=4)(denoise, schedule, torch.ones(3, 1, 2, 2), lambda _: torch.zeros(3, 1, 2, 2))
    assert seen == [[timestep] * 3 for timestep in SAMPLERS[name].spacing(schedule, 4).tolist()]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"steps": 0}, "`steps` must be at least 1, not 0"),
        ({"eta": 1.1, "name": "ddim"}, r"`eta` must be within 0\.\.1, not 1\.1"),
        ({"eta": -0.1, "name": "ddim"}, r"`eta` must be within 0\.\.1, not -0\.1"),
        ({"eta": 0.5, "name": "ddpm"}, "`eta` is DDIM's; ddpm does not take it"),
        ({"guidance": -0.1}, r"`guidance` must be 0 or more, not -0\.1"),
        ({"guidance": np.inf}, "`guidance` must be 0 or more, not inf"),
    ],
)
def test_invalid_sampler_settings_are_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        Sampler(**asked)


@pytest.mark.parametrize("asked", [{"steps": 1}, {"steps": 100}, {"guidance": 0.0}, {"guidance": 0.5}])
def test_extreme_valid_sampler_settings_are_accepted(asked):
    def denoise(x, timesteps):
        return 0.5 * x, None

    drawn = Sampler(**asked)(denoise, linear_schedule(100), torch.ones(1, 1), lambda _: None)
    assert drawn.isfinite().all()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_eta_is_ddims(eta):
    schedule, noise = linear_schedule(1000), torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    timesteps = even_timesteps(schedule, 10)

    def draw(timestep):
        return torch.full_like(noise, np.cos(timestep))

    asked = Sampler(name="ddim", steps=10, eta=eta)(gaussian_denoiser(schedule), schedule, noise, draw)
    assert torch.equal(asked, ddim(gaussian_denoiser(schedule), schedule, noise, timesteps, draw=draw, eta=eta))


def test_more_steps_than_the_model_has_are_refused():
    with pytest.raises(UsageError, match="1000"):
        Sampler(steps=1001)(lambda x, t: (x, None), linear_schedule(1000), torch.zeros(1, 1), lambda t: None)
    with pytest.raises(UsageError, match="euler"):
        Sampler(name="euler")
