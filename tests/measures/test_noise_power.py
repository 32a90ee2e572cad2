import numpy as np
import pytest
from scipy.fft import fft2, ifft2
from scipy.ndimage import gaussian_filter

from ctsynth.measures.noise_power import ROI, eroded, frequencies, mean_frequency, regions, spectrum, variance

RNG = np.random.default_rng(0)
PIXEL = 1.5  # mm


def smooth_noise(sigma, count=400):
    """White noise of variance 1 on a torus, filtered by a Gaussian of sigma pixels."""
    f = np.fft.fftfreq(ROI)
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (f[:, None] ** 2 + f**2))
    return ifft2(fft2(RNG.standard_normal((count, ROI, ROI))) * transfer).real


def test_white_noise_has_a_flat_spectrum_of_its_variance_times_the_pixels_area():
    power = spectrum(5 * RNG.standard_normal((400, ROI, ROI)), PIXEL)
    np.testing.assert_allclose(power[3:], 25 * PIXEL**2, rtol=0.05)
    assert mean_frequency(power, PIXEL) == pytest.approx(frequencies(PIXEL).mean(), rel=0.05)
    assert variance(5 * RNG.standard_normal((400, ROI, ROI))) == pytest.approx(25 * (1 - 6 / ROI**2), rel=0.02)


def test_filtered_noise_has_the_filters_spectrum_and_a_lower_mean_frequency():
    """exp(-(2 pi sigma f)^2); the lowest frequencies go with the surface that is subtracted."""
    sigma = 0.8  # pixels
    power = spectrum(smooth_noise(sigma), PIXEL)
    f = frequencies(PIXEL)[3:] / 10 * PIXEL  # cycles a pixel
    np.testing.assert_allclose(power[3:], PIXEL**2 * np.exp(-((2 * np.pi * sigma * f) ** 2)), rtol=0.1, atol=0.01)
    assert mean_frequency(power, PIXEL) < 0.7 * frequencies(PIXEL).mean()


def test_the_mean_frequency_is_weighted_by_power():
    power = np.zeros(ROI // 2)
    power[[3, 7]] = 3, 1
    assert mean_frequency(power, PIXEL) == pytest.approx((3 * 4 + 8) / 4 * 10 / (ROI * PIXEL))


def test_frequencies_are_in_line_pairs_a_cm_up_to_nyquist():
    assert frequencies(1.0)[[0, -1]].tolist() == pytest.approx([10 / ROI, 5])
    assert frequencies(0.5)[-1] == pytest.approx(10)


def test_a_second_order_surface_has_no_noise_power():
    row, column = np.meshgrid(*[np.linspace(-1, 1, ROI)] * 2, indexing="ij")
    surface = 40 + 9 * row - 5 * column + 7 * row * column + 3 * row**2 - 8 * column**2
    assert variance(surface[None]) < 1e-20
    noise = RNG.standard_normal((50, ROI, ROI))
    np.testing.assert_allclose(spectrum(noise + surface, PIXEL), spectrum(noise, PIXEL))


def test_regions_keep_5_mm_from_the_border_and_overlap_by_half_at_most():
    organ = np.zeros((5, 100, 100), bool)
    organ[:, 10:80, 10:70] = True
    inner = eroded(organ, (2.0, 1.0, 1.0))
    assert [plane.sum() for plane in inner] == [0, 0, 60 * 50, 0, 0]  # 6 mm from the ends, then 5 pixels
    found = regions(inner)
    assert found == [(2, 15, 15), (2, 15, 31), (2, 31, 15), (2, 31, 31)]
    assert all(inner[z, r : r + ROI, c : c + ROI].all() for z, r, c in found)


@pytest.mark.parametrize("seed", range(3))
def test_no_two_regions_overlap_by_more_than_half_and_there_is_no_room_for_another(seed):
    inner = gaussian_filter(np.random.default_rng(seed).normal(size=(2, 120, 140)), (0, 16, 16)) > -0.02
    found = np.array(regions(inner))
    windows = np.lib.stride_tricks.sliding_window_view(inner, (ROI, ROI), axis=(1, 2)).all(axis=(3, 4))
    places = np.argwhere(windows)
    assert len(found) > 4
    assert windows[tuple(found.T)].all()
    apart = np.abs(places[:, None] - found)  # slices, rows and columns
    is_near = (apart[..., 0] == 0) & (apart[..., 1:] < ROI // 2).all(axis=2)
    assert is_near.any(axis=1).all()
    is_found = (apart == 0).all(axis=2).any(axis=1)
    assert (is_near[is_found].sum(axis=1) == 1).all()  # near itself alone


def test_a_region_may_be_all_that_there_is():
    inner = np.zeros((1, 40, 40), bool)
    inner[0, 3 : 3 + ROI, 5 : 5 + ROI] = True
    assert regions(inner) == [(0, 3, 5)]
    assert regions(np.ones((1, ROI, ROI), bool)) == [(0, 0, 0)]
    assert regions(np.ones((1, ROI - 1, 80), bool)) == []


def test_small_organs_and_small_slices_have_no_regions():
    assert regions(np.ones((2, 20, 20), bool)) == []
    assert regions(eroded(np.zeros((2, 64, 64), bool), (1, 1, 1))) == []
    ring = np.ones((1, 64, 64), bool)
    ring[0, 16:48, 16:48] = False
    assert regions(ring) == []
