import math

import numpy as np
import pytest
from measured_metrics import MeasuredMetric
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ctsynth.data.slices import to_slices
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.errors import DataError
from ctsynth.labels import AMOS22
from ctsynth.metrics.base import Pair
from ctsynth.metrics.psnr import PSNR
from ctsynth.metrics.ssim import SSIM


def pair(real, synthetic, mask=None, subject="one"):
    mask = np.full(real.shape, AMOS22.body_id, np.uint8) if mask is None else mask
    return Pair(subject, real, synthetic, mask, AMOS22, Window(), Geometry(real.shape[::-1], np.eye(4)))


def result(metric, *pairs):
    return MeasuredMetric(metric(), *pairs).result()


def oracle(real, synthetic):
    psnr = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(real, synthetic, strict=True)]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    ssim = [structural_similarity(a, b, **settings) for a, b in zip(real, synthetic, strict=True)]
    return psnr, ssim


def test_equal_to_scikit_image_on_200_random_slices():
    rng = np.random.default_rng(0)
    real = gaussian_filter(rng.random((200, 40, 48)), (0, 1.5, 1.5)).astype(np.float32)
    noise = rng.normal(0, rng.uniform(0.001, 0.3, (200, 1, 1)), real.shape)
    synthetic = np.clip(real + noise, 0, 1).astype(np.float32)
    psnr, ssim = oracle(real.astype(np.float64), synthetic.astype(np.float64))
    assert result(PSNR, pair(real, synthetic)).per_slice["one"] == pytest.approx(psnr, abs=1e-6)
    assert result(SSIM, pair(real, synthetic)).per_slice["one"] == pytest.approx(ssim, abs=1e-6)


@pytest.mark.parametrize("case", ["imagesTr/ts_example_0001", "imagesVa/ts_example_0002"])
def test_equal_to_scikit_image_on_real_slices(real_ct, case):
    hu = Volume.load(real_ct / f"{case}.nii.gz").voxels
    real = Window().normalize(to_slices(Window().clip(hu), 128, "ct"))
    rng = np.random.default_rng(0)
    synthetic = gaussian_filter(real, (0, 1, 1)) + rng.normal(0, 0.05, real.shape) * (real > 0)
    synthetic = np.clip(synthetic, 0, 1).astype(np.float32)
    psnr, ssim = oracle(real.astype(np.float64), synthetic.astype(np.float64))
    assert result(PSNR, pair(real, synthetic)).total.value == pytest.approx(np.mean(psnr), abs=1e-6)
    assert result(SSIM, pair(real, synthetic)).total.value == pytest.approx(np.mean(ssim), abs=1e-6)


@pytest.mark.parametrize("offset", [0.5, 0.1, 0.01])
def test_psnr_of_a_constant_offset(offset):
    real = np.random.default_rng(0).uniform(0, 0.5, (3, 16, 16))
    found = result(PSNR, pair(real, real + offset))
    assert found.total.value == pytest.approx(-20 * math.log10(offset))
    assert found.variants["body"].total.value == pytest.approx(-20 * math.log10(offset))
    assert (found.title, found.variants["body"].title) == ("PSNR", "PSNR in body")


def test_air_around_the_patient_raises_psnr_but_not_psnr_in_the_body():
    real = np.zeros((1, 40, 40))
    mask = np.zeros(real.shape, np.uint8)
    mask[:, 10:30, 10:30] = AMOS22.body_id  # a quarter of the slice
    found = result(PSNR, pair(real, real + 0.1 * (mask != 0), mask))
    assert found.variants["body"].total.value == pytest.approx(20)
    assert found.total.value == pytest.approx(20 + 10 * math.log10(4))


def test_identical_slices_are_left_out_of_psnr_and_counted():
    real = np.zeros((4, 16, 16))
    synthetic = real.copy()
    synthetic[1] += 0.1
    found = result(PSNR, pair(real, synthetic))
    assert found.total.value == pytest.approx(20)
    assert found.total.n == 1
    assert found.per_slice["one"] == [None, pytest.approx(20), None, None]
    assert found.notes == ("3 of 4 slices equal the real ones: left out of the mean",)


def test_psnr_of_identical_slices_only_has_no_value():
    real = np.zeros((2, 16, 16))
    found = result(PSNR, pair(real, real))
    assert found.total.value is None
    assert found.per_subject == {"one": None}
    assert result(SSIM, pair(real, real)).total.value == pytest.approx(1)


@pytest.mark.parametrize("metric", [PSNR, SSIM])
def test_slices_without_a_body_are_left_out_of_the_bodys_mean_and_counted(metric):
    rng = np.random.default_rng(0)
    real, synthetic = rng.random((2, 3, 20, 20))
    mask = np.zeros(real.shape, np.uint8)
    mask[0] = 6
    found = result(metric, pair(real, synthetic, mask))
    assert found.total.n == 3
    body = found.variants["body"]
    assert body.total.n == 1
    assert body.notes == ("2 of 3 slices show no body: left out of the mean",)


@pytest.mark.parametrize(("shape", "fits"), [((3, 11, 11), True), ((20, 10, 12), False), ((20, 12, 10), False)])
def test_ssim_needs_slices_of_a_window_at_least(shape, fits):
    real = np.random.default_rng(0).random(shape)
    if fits:
        assert result(SSIM, pair(real, real)).total.n == 3
        assert result(SSIM, pair(real, real)).variants["body"].notes == ()
    else:
        with pytest.raises(DataError, match="SSIM's window is 11 x 11"):
            result(SSIM, pair(real, real))


def test_ssim_in_the_body_does_not_see_what_happens_far_outside():
    rng = np.random.default_rng(0)
    real, synthetic = rng.random((2, 1, 60, 60))
    mask = np.zeros(real.shape, np.uint8)
    mask[:, 35:50, 35:50] = AMOS22.body_id
    elsewhere = synthetic.copy()
    elsewhere[:, :25, :] = 0  # more than a window away from the body
    one, other = result(SSIM, pair(real, synthetic, mask)), result(SSIM, pair(real, elsewhere, mask))
    assert one.total.value != pytest.approx(other.total.value, abs=0.01)
    assert one.variants["body"].total.value == pytest.approx(other.variants["body"].total.value, abs=1e-12)


def test_the_mean_is_over_slices_not_over_subjects():
    real = np.full((3, 16, 16), 0.5)
    long, short = pair(real, real + 0.1, subject="long"), pair(real[:1], real[:1] + 0.01, subject="short")
    found = result(PSNR, long, short)
    assert found.per_subject == {"long": pytest.approx(20), "short": pytest.approx(40)}
    assert found.total.value == pytest.approx((3 * 20 + 40) / 4)
