"""What the scores along z make of given measurements: no volumes, numbers that can be checked by hand."""

import numpy as np
import pytest

from ctsynth.metrics.z_correlation import ZCorrelation
from ctsynth.metrics.z_flicker import ZFlicker
from ctsynth.metrics.z_gradient import ZGradient

NAN = float("nan")


def described(**columns):
    """By subject, a to z, what is given of each."""
    rows = zip(*columns.values(), strict=True)
    return {
        name: {key: np.asarray(value, float) for key, value in zip(columns, row, strict=True)}
        for name, row in zip("abcdefgh", rows, strict=False)
    }


def test_flicker_is_the_mean_over_subjects_of_decibels_and_subjects_without_power_are_left_out():
    records = described(
        real_power=[1.0, 0.8, 3.0, NAN, 0.0, 2.0], synthetic_power=[100.0, 0.08, 3.0, 2.0, 2.0, 0.0]
    )
    found = ZFlicker().result(records)
    assert found.per_subject == pytest.approx({"a": 20.0, "b": -10.0, "c": 0.0, "d": None, "e": None, "f": None})
    assert found.total.value == pytest.approx((20 - 10 + 0) / 3)
    assert found.total.n == 3
    assert found.notes == ("3 of 6 subjects have too few slices: left out of the mean",)
    assert ZFlicker().result({"a": records["a"]}).notes == ()


def test_the_floor_of_flicker_is_the_geometric_mean_of_the_others():
    real = described(power=[0.2, NAN])
    others = described(power=[0.25, 16.0, NAN, 0.0]).values()
    floor = ZFlicker().against(real, list(others))
    assert floor.per_subject == pytest.approx({"a": 10.0, "b": None})  # 2 over 0.2
    assert ZFlicker().against(real, list(described(power=[NAN, 0.0]).values())).total.value is None


def test_the_gradient_is_a_ratio_of_sums_and_none_where_the_real_volume_has_no_steps():
    records = described(real_sums=[(0.5, 0.25), (2.0, 0.0)], synthetic_sums=[(1.0, 0.5), (1.0, 0.0)])
    found = ZGradient().result(records)
    same, changed = found.variants.values()
    assert [one.per_subject for one in (found, same, changed)] == [
        {"a": 2.0, "b": 0.5}, {"a": 2.0, "b": 0.5}, {"a": 2.0, "b": None}
    ]  # fmt: skip
    assert [one.total.value for one in (found, same, changed)] == pytest.approx([2.5 / 2.75, 2 / 2.5, 2])
    assert [one.total.n for one in (found, same, changed)] == [2, 2, 1]


def test_the_floor_of_the_gradient_is_the_others_mean_step_at_each_subjects_number():
    real = described(sums=[(3.0, 1.0), (1.0, 2.0)], counts=[(10, 4), (5, 8)])
    others = described(sums=[(2.0, 0.5), (4.0, 0.0)], counts=[(10, 1), (20, 0)])
    floor = ZGradient().against(real, list(others.values()))
    same, changed = floor.variants.values()  # steps of 6 / 30 and 0.5 / 1
    assert same.per_subject == pytest.approx({"a": 2 / 3, "b": 1 / 1})
    assert changed.per_subject == pytest.approx({"a": 2 / 1, "b": 4 / 2})
    none = ZGradient().against(real, list(described(sums=[(2.0, 0.0)], counts=[(10, 0)]).values()))
    assert none.variants["changed"].per_subject == {"a": 0.0, "b": 0.0}


def test_the_correlation_error_counts_distances_up_to_60_mm_and_the_first_in_any_case():
    records = described(
        real_mm=[(20, 40, 60, 80), (70, 140, 210, 280), (20, 40, 60, 80), (1, 2, 3, 4)],
        real_correlation=[(0.9, 0.5, 0.2, 0.1), (0.5, 0.4, 0.3, 0.2), (0.5, NAN, 0.2, 0.1), (NAN,) * 4],
        synthetic_correlation=[(0.8, 0.7, 0.2, -1), (0.9, 0.4, 0, 0), (0.9, 0.5, 0.2, 0), (0.5,) * 4],
    )
    found = ZCorrelation().result(records)
    assert found.per_subject == pytest.approx({"a": 0.1, "b": 0.4, "c": 0.2, "d": None})
    assert found.total.value == pytest.approx((0.1 + 0.4 + 0.2) / 3)
    assert found.total.n == 3
    assert found.curve.x == pytest.approx([111 / 4, 222 / 4, 333 / 4, 444 / 4])
    assert found.curve.lines["real"] == pytest.approx([1.9 / 3, 0.9 / 2, 0.7 / 3, 0.4 / 3])
    alone = ZCorrelation().result({"d": records["d"]})
    assert alone.curve.lines["real"] == [None] * 4
    assert alone.total.value is None


def test_the_floor_of_the_correlation_is_the_others_mean_curve_from_1_at_0_mm_to_its_end():
    real = described(mm=[(5, 10, 15, 25, 45)], correlation=[(0.0,) * 5])
    others = described(
        mm=[(10, 20, 30), (20, 40, 60), (1, 2, 3)],
        correlation=[(0.8, 0.4, NAN), (0.6, 0.2, NAN), (NAN, NAN, NAN)],
    )
    floor = ZCorrelation().against(real, list(others.values()))
    assert floor.curve.lines["synthetic"] == pytest.approx(
        [(0.9 + 0.9) / 2, (0.8 + 0.8) / 2, (0.6 + 0.7) / 2, 0.5, None]
    )
    nothing = ZCorrelation().against(real, [others["c"]])
    assert nothing.curve.lines["synthetic"] == [None] * 5
