import numpy as np
import pytest
from measured_metrics import MeasuredMetric
from scipy.ndimage import gaussian_filter

from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22
from ctsynth.metrics.base import RESAMPLES, Pair
from ctsynth.metrics.gradient import GradientRatio
from ctsynth.metrics.hu import OrganHU, _mean_of_draws

RNG = np.random.default_rng(0)
REAL = gaussian_filter(RNG.random((4, 24, 24)), (0, 1, 1))
MASK = np.zeros(REAL.shape, np.uint8)
MASK[:, 4:20, 4:20] = AMOS22.body_id
MASK[:, 6:12, 6:12] = 6  # liver
MASK[:2, 14:18, 14:18] = 1  # spleen


def result(metric, synthetic, mask=MASK, subjects=1):
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    pairs = [Pair(f"subject_{n}", REAL, synthetic, mask, AMOS22, Window(), geometry) for n in range(subjects)]
    return MeasuredMetric(metric(), *pairs).result()


def test_the_gradient_ratio_is_that_of_the_contrasts():
    assert result(GradientRatio, REAL).total.value == pytest.approx(1)
    assert result(GradientRatio, 0.5 * REAL + 0.2).total.value == pytest.approx(0.5)


def test_blur_lowers_the_gradient_ratio_and_speckle_raises_it():
    assert result(GradientRatio, gaussian_filter(REAL, (0, 1, 1))).total.value < 0.9
    assert result(GradientRatio, REAL + RNG.normal(0, 0.05, REAL.shape)).total.value > 1.1


def test_the_ratio_of_the_set_a_subject_and_a_slice_is_that_of_the_sums():
    """Slices with one edge each: steps of 0.2 and 0.4 for real ones of 0.1, then 0.3 for 0.6."""

    def edges(*heights):
        slices = np.zeros((len(heights), 4, 6))
        slices[:, :, 3:] = np.array(heights)[:, None, None]
        return slices

    geometry = Geometry((6, 4, 2), np.eye(4))
    pairs = [
        Pair("a", edges(0.1, 0.1), edges(0.2, 0.4), MASK, AMOS22, Window(), geometry),
        Pair("b", edges(0.6), edges(0.3), MASK, AMOS22, Window(), geometry),
        Pair("flat", edges(0.0), edges(0.3), MASK, AMOS22, Window(), geometry),
    ]
    found = MeasuredMetric(GradientRatio(), *pairs).result()
    assert found.total.value == pytest.approx((0.6 + 0.3 + 0.3) / (0.2 + 0.6))
    assert found.per_subject == {"a": pytest.approx(3), "b": pytest.approx(0.5), "flat": None}
    assert found.per_slice == {"a": pytest.approx([2, 4]), "b": pytest.approx([0.5]), "flat": [None]}


def test_a_flat_real_slice_has_no_gradient_ratio():
    real = REAL.copy()
    real[0] = 0
    pair = Pair("one", real, REAL, MASK, AMOS22, Window(), Geometry(REAL.shape[::-1], np.eye(4)))
    found = MeasuredMetric(GradientRatio(), pair).result()
    assert found.per_slice["one"][0] is None
    assert found.total.n == 3


def test_an_organ_that_is_10_hu_too_dense_is_found():
    denser = REAL + 10 / 400 * (MASK == 6)
    found = result(OrganHU, denser)
    assert found.per_organ["liver"].value == pytest.approx(10)
    assert found.per_organ["spleen"].value == pytest.approx(0)
    assert found.per_organ["body"].value == pytest.approx(0)
    assert found.total.value == pytest.approx(5)  # two organs; body is not one
    assert found.total.n == 2


def test_differences_are_absolute_on_average_and_equal_subjects_have_an_interval_of_no_width():
    """Liver 20 HU too dense, spleen 10 too dark: 15 on average; body, 40 off, does not count."""
    off = np.zeros(AMOS22.num_classes)
    off[[6, 1, AMOS22.body_id]] = 20, -10, 40
    found = result(OrganHU, REAL + off[MASK] / 400, subjects=3)
    for value, expected in (
        (found.total, 15), (found.per_organ["liver"], 20), (found.per_organ["spleen"], -10),
        (found.per_organ["body"], 40),
    ):  # fmt: skip
        assert (value.value, value.low, value.high) == pytest.approx((expected,) * 3)
    assert found.per_subject == {f"subject_{n}": pytest.approx(15) for n in range(3)}


def test_the_intervals_are_over_the_subjects_and_organs_that_a_resample_has():
    """Two of four subjects have a spleen, 40 HU off where the liver is 20: of 16 resamples one has none."""
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    without = np.where(MASK == 1, AMOS22.body_id, MASK).astype(np.uint8)
    masks = {f"subject_{n}": mask for n, mask in enumerate((MASK, without) * 2)}
    synthetic = REAL + 20 / 400 * (MASK == 6) + 40 / 400 * (MASK == 1)
    pairs = [Pair(n, REAL, synthetic, mask, AMOS22, Window(), geometry) for n, mask in masks.items()]
    found = MeasuredMetric(OrganHU(), *pairs).result()
    spleen, total = found.per_organ["spleen"], found.total
    assert (spleen.value, spleen.low, spleen.high, spleen.n) == (*[pytest.approx(40)] * 3, 2)
    assert (total.value, total.low, total.high) == pytest.approx((30, 20, 30))
    np.testing.assert_allclose(_mean_of_draws(np.array([[7.0, np.nan]])), [[7.0, np.nan]] * RESAMPLES)


def test_an_organ_of_one_voxel_is_an_organ():
    mask = np.full_like(MASK, AMOS22.body_id)
    mask[1, 3, 5] = 10
    found = result(OrganHU, REAL + 0.05, mask)
    assert found.total.value == pytest.approx(20)
    assert found.total.n == 1


def test_organ_hu_parts_are_mean_hu():
    found = result(OrganHU, REAL).per_organ["liver"]
    assert found.parts["real"] == pytest.approx(-160 + 400 * REAL[MASK == 6].mean())
    assert found.unit == "HU"


def test_an_absent_organ_is_not_listed_and_n_counts_the_subjects_that_have_it():
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    without = np.where(MASK == 1, AMOS22.body_id, MASK).astype(np.uint8)
    a = Pair("a", REAL, REAL, without, AMOS22, Window(), geometry)
    b = Pair("b", REAL, REAL + 0.05, MASK, AMOS22, Window(), geometry)
    found = MeasuredMetric(OrganHU(), a, b).result()
    assert list(found.per_organ) == ["spleen", "liver", "body"]  # by id, whichever subject came first
    assert (found.per_organ["spleen"].n, found.per_organ["liver"].n) == (1, 2)
    assert found.per_organ["spleen"].low is None
    assert found.per_organ["liver"].value == pytest.approx(10)
    assert found.per_organ["spleen"].value == pytest.approx(20)


def test_a_mask_without_organs_gives_no_number():
    found = result(OrganHU, REAL, np.full_like(MASK, AMOS22.body_id), subjects=2)
    assert found.total.value is None
    assert found.per_subject == {"subject_0": None, "subject_1": None}


def test_organs_of_two_densities_have_their_mean_and_not_their_distribution():
    """Half of each organ 10 HU too dense and half 10 too dark: no error of the mean, 10 HU apart all the same."""
    rows = np.where(np.arange(24) % 2, 10, -10)[:, None]
    flat = np.full(REAL.shape, 0.5)
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    pairs = [Pair(n, flat, flat + rows / 400, MASK, AMOS22, Window(), geometry) for n in ("a", "b")]
    found = MeasuredMetric(OrganHU(), *pairs).result()
    assert found.total.value == pytest.approx(0, abs=1e-4)
    distance = found.variants["w1"]
    assert [distance.total.value, distance.total.low, distance.total.high] == pytest.approx([10] * 3)
    assert distance.per_organ["liver"].value == pytest.approx(10)
    assert distance.per_subject == {"a": pytest.approx(10), "b": pytest.approx(10)}
    assert distance.total.n == 2


def test_the_distance_is_of_all_voxels_of_the_set():
    """Subjects 20 HU apart whose densities are swapped: each is off, the set is not."""
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    low, high = np.full(REAL.shape, 0.4), np.full(REAL.shape, 0.45)
    pairs = [
        Pair("a", low, high, MASK, AMOS22, Window(), geometry),
        Pair("b", high, low, MASK, AMOS22, Window(), geometry),
    ]
    distance = MeasuredMetric(OrganHU(), *pairs).result().variants["w1"]
    assert distance.total.value == pytest.approx(0)
    assert distance.per_subject == {"a": pytest.approx(20), "b": pytest.approx(20)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.0])
def test_the_spread_is_how_much_of_the_difference_between_subjects_is_kept(share):
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    pairs = [
        Pair(f"{n}", REAL + own, REAL + share * own, MASK, AMOS22, Window(), geometry)
        for n, own in enumerate((-0.1, 0.0, 0.05, 0.15))
    ]
    found = MeasuredMetric(OrganHU(), *pairs).result().variants["spread"]
    assert found.total.value == pytest.approx(share, abs=1e-6)
    assert (found.total.low, found.total.high) == pytest.approx((share, share), abs=1e-6)
    assert found.per_organ["liver"].value == pytest.approx(share, abs=1e-6)


def test_one_subject_or_equal_subjects_have_no_spread():
    for subjects in (1, 3):
        assert result(OrganHU, REAL + 0.02, subjects=subjects).variants["spread"].total.value is None
