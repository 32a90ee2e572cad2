import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import periodogram

from ctsynth.measures.along_z import correlations, flicker_power, steps

RNG = np.random.default_rng(0)
BODY = np.ones((48, 40, 40), bool)


def autoregressive(phi, shape=BODY.shape, seed=0):
    """x[z] = phi x[z - 1] + noise, with variance 1 in every slice: its correlation at k slices is phi^k."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    values = noise.copy()
    for z in range(1, len(values)):
        values[z] = phi * values[z - 1] + np.sqrt(1 - phi**2) * noise[z]
    return values


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_correlation_of_an_autoregressive_residual_is_phi_to_the_lag(phi):
    found = correlations(autoregressive(phi), BODY)
    np.testing.assert_allclose(found, phi ** np.arange(1, 9), atol=0.03)


def test_the_correlation_is_pearsons_over_the_pairs_in_the_body():
    body = RNG.random(BODY.shape) < 0.4
    values = autoregressive(0.8) * 3 + 100 + np.arange(48)[:, None, None]
    for lag, found in enumerate(correlations(values, body), start=1):
        both = body[:-lag] & body[lag:]
        assert found == pytest.approx(np.corrcoef(values[:-lag][both], values[lag:][both])[0, 1], abs=1e-9)


def test_outside_the_body_nothing_counts():
    body = np.zeros_like(BODY)
    body[:, 10:30, 10:30] = True
    values = autoregressive(0.7)
    other = np.where(body, values, 1000 * RNG.random(BODY.shape))
    np.testing.assert_array_equal(correlations(values, body), correlations(other, body))
    assert flicker_power(values, body) == flicker_power(other, body)


def test_lags_without_pairs_and_flat_residuals_have_no_correlation():
    assert np.isnan(correlations(autoregressive(0.5)[:3], BODY[:3])).tolist() == [False, False] + [True] * 6
    assert np.isnan(correlations(np.full(BODY.shape, 7.3), BODY)).all()
    assert np.isnan(correlations(autoregressive(0.5), ~BODY)).all()


@pytest.mark.parametrize("slices", [24, 32, 48, 100])
def test_the_power_of_white_noise_is_its_variance_in_columns_of_any_length(slices):
    shape = (slices, 64, 64)
    values = 5 * np.random.default_rng(slices).standard_normal(shape)
    assert flicker_power(values, np.ones(shape, bool)) == pytest.approx(25, rel=0.03)


@pytest.mark.parametrize("slices", [8, 9, 31, 32])
def test_the_power_is_that_of_scipys_periodogram_with_a_hann_window_above_a_quarter_cycle(slices):
    values = autoregressive(0.5)[:slices]
    _, power = periodogram(values, window="hann", detrend=False, return_onesided=False, axis=0)
    high = power[slices // 4 + 1 : slices // 2 + 1]
    assert flicker_power(values, BODY[:slices]) == pytest.approx(high.mean(), rel=1e-6)


@pytest.mark.parametrize(("slices", "parts"), [(33, (17, 16)), (65, (22, 22, 21))])
def test_more_than_32_slices_are_split_into_equal_parts(slices, parts):
    shape = (slices, 5, 5)
    values, body = autoregressive(0.5, shape), np.ones(shape, bool)
    ends = np.cumsum((0, *parts))
    apart = [flicker_power(values[a:b], body[a:b]) for a, b in itertools.pairwise(ends)]
    assert flicker_power(values, body) == pytest.approx(np.mean(apart), rel=1e-9)


@pytest.mark.parametrize("phi", [-0.5, 0.5, 0.8])
def test_the_power_of_an_autoregressive_residual_is_that_of_its_spectrum(phi):
    """(1 - phi^2) / (1 + phi^2 - 2 phi cos(2 pi f)) at 9/32 to 16/32 cycles a slice."""
    f = np.arange(9, 17) / 32
    expected = np.mean((1 - phi**2) / (1 + phi**2 - 2 * phi * np.cos(2 * np.pi * f)))
    assert flicker_power(autoregressive(phi, (64, 64, 64)), np.ones((64, 64, 64), bool)) == pytest.approx(
        expected, rel=0.05
    )


def test_flicker_does_not_see_what_changes_slowly():
    z = np.arange(48)[:, None, None]
    slow = 100 + 50 * np.sin(2 * np.pi * z / 24) + np.zeros(BODY.shape)
    assert flicker_power(slow, BODY) < 1e-3 * 50**2
    assert flicker_power(50 * (-1.0) ** z + np.zeros(BODY.shape), BODY) > 50**2


def test_too_few_slices_have_no_flicker():
    assert np.isnan(flicker_power(RNG.random((7, 9, 9)), np.ones((7, 9, 9), bool)))
    assert np.isnan(flicker_power(RNG.random(BODY.shape), ~BODY))


def test_shuffled_slices_lose_correlation_and_gain_flicker_and_blurred_ones_the_reverse():
    real = autoregressive(0.7)
    shuffled, blurred = real[RNG.permutation(48)], gaussian_filter1d(real, 1, axis=0)
    assert (
        correlations(shuffled, BODY)[0] < 0.1 < 0.6 < correlations(real, BODY)[0] < correlations(blurred, BODY)[0]
    )
    assert flicker_power(blurred, BODY) < flicker_power(real, BODY) < flicker_power(shuffled, BODY)


def test_steps_are_those_within_the_body_apart_where_the_label_changes():
    mask = np.array([[[6, 6, 0]], [[6, 16, 16]], [[6, 16, 16]]])
    values = np.array([[[1.0, 1.0, 1.0]], [[3.0, 1.5, 9.0]], [[3.0, 2.5, 8.0]]])
    sums, counts = steps(values, mask)
    assert sums.tolist() == [2 + 0 + 1 + 1, 0.5]
    assert counts.tolist() == [4, 1]
    for upside_down, found in zip(steps(values[::-1], mask[::-1]), (sums, counts), strict=True):
        assert (upside_down == found).all()
