import numpy as np
import pytest

from ctsynth.diffusion.schedule import NoiseSchedule, linear_schedule


def test_the_linear_schedule_ends_where_the_papers_does():
    schedule = linear_schedule(1000)
    assert schedule.alphas_cumprod[-1] == pytest.approx(4.036e-5, rel=1e-3)
    assert np.sqrt(schedule.alphas_cumprod[-1]) == pytest.approx(0.00635, abs=1e-5)  # terminal SNR is not 0
    assert schedule.betas.dtype == np.float64


def test_respacing_to_all_timesteps_changes_nothing():
    schedule = linear_schedule(1000)
    np.testing.assert_allclose(schedule.respaced(np.arange(1000)).betas, schedule.betas, rtol=1e-9)


@pytest.mark.parametrize("betas", [[0.1, 1.0], [0.0, 0.1], [[0.1, 0.2]]])
def test_betas_outside_0_to_1_are_refused(betas):
    with pytest.raises(ValueError, match="within"):
        NoiseSchedule(np.array(betas))


def test_the_first_log_variance_repeats_the_second_or_is_the_only_beta():
    """log 0 it would be; ancestral sampling in one step has a schedule of one timestep."""
    assert NoiseSchedule(np.array([0.5])).posterior_log_variance_clipped.tolist() == [np.log(0.5)]
    two = NoiseSchedule(np.array([0.2, 0.3]))
    assert two.posterior_log_variance_clipped == pytest.approx([np.log(0.3 * 0.2 / 0.44)] * 2)
