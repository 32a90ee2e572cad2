"""The Wasserstein distance and the spread of organ HU, from descriptions of volumes written by hand."""

import numpy as np
import pytest
from measured_metrics import MeasuredMetric

from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22
from ctsynth.metrics._described import joined
from ctsynth.metrics.base import Pair
from ctsynth.metrics.hu import OrganHU

LIVER = 6


def described(*means):
    """Descriptions of one subject each, whose organs have these mean HU, NaN where one is absent."""
    return {
        str(number): {
            "organs": np.array([f"organ {n}" for n in range(len(row))]),
            "hu": np.array(row, np.float64),
            "is_organ": np.ones(len(row), bool),
            "counts": np.where(np.isfinite(row), 1, 0)[:, None].astype(np.uint32),
        }
        for number, row in enumerate(means)
    }


def spread(real, synthetic):
    records = joined(described(*real), described(*synthetic).values())
    return OrganHU().result(records).variants["spread"]


def test_the_spread_is_of_the_subjects_that_have_the_organ():
    real = np.array([[50, 30], [60, np.nan], [80, 70], [np.nan, 20]])
    synthetic = np.array([[55, 40], [58, np.nan], [70, 60], [np.nan, 45]])
    found = spread(real, synthetic)
    widths = np.nanstd(synthetic, axis=0), np.nanstd(real, axis=0)
    assert [value.value for value in found.per_organ.values()] == pytest.approx(widths[0] / widths[1], rel=1e-12)
    assert found.total.value == pytest.approx(widths[0].sum() / widths[1].sum(), rel=1e-12)
    assert found.total.n == 2


def test_a_small_spread_far_from_0_hu_is_exact():
    """Squares of 239 HU lose ten digits of a deviation of 0.003 HU, unless means are centered first."""
    offsets = np.array([[-0.003], [0.001], [0.002], [0.0045]])
    found = spread(239 + offsets, 239 + 2 * offsets[::-1])
    assert found.total.value == pytest.approx(2, rel=1e-9)


@pytest.mark.parametrize(("deviation", "known"), [(0.0008, False), (0.0012, True)])
def test_subjects_that_differ_by_less_than_a_thousandth_hu_have_no_spread(deviation, known):
    found = spread([[deviation], [-deviation]], [[1.0], [-1.0]])
    assert (found.total.value is not None) == known
    assert found.total.n == known
    assert found.digits == 2


def test_intervals_are_over_the_subjects_that_a_resample_has():
    real = np.array([[50.0], [60], [80], [np.nan]])
    synthetic = np.array([[55.0], [58], [70], [np.nan]])
    found = spread(real, synthetic).total
    assert 0.3 - 1e-9 < found.low < found.value < found.high < 0.6 + 1e-9  # 3 / 10 of two subjects, 12 / 20 of two


def test_digits_and_direction_of_each_number():
    found = OrganHU().result(joined(described([50.0], [60.0]), described([50.0], [60.0]).values()))
    distance, ratio = found.variants["w1"], found.variants["spread"]
    assert (found.digits, distance.digits, ratio.digits) == (1, 1, 2)
    assert (found.higher_is_better, distance.higher_is_better, ratio.higher_is_better) == (False, False, None)


@pytest.mark.parametrize("ends", [(0.0, 1 / 400), (1.0, 1 - 1 / 400)])
def test_the_last_hu_at_each_end_of_the_window_are_1_hu_apart(ends):
    assert distance(*ends).total.value == pytest.approx(1)


def distance(real, synthetic, label=LIVER):
    mask = np.full((2, 3, 4), label, np.uint8)
    pair = Pair(
        "one", np.full(mask.shape, real), np.full(mask.shape, synthetic), mask, AMOS22, Window(),
        Geometry((4, 3, 2), np.eye(4)),
    )  # fmt: skip
    return MeasuredMetric(OrganHU(), pair).result().variants["w1"]


def test_without_a_patient_there_is_no_number():
    found = distance(0.5, 0.6, label=0)
    assert (found.total.value, found.total.low, found.per_organ) == (None, None, {})
