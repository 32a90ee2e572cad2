"""Contrasts of two arms: closed forms, and how often simulated studies are right."""

import numpy as np
import pytest
from scipy import stats

from ctsynth.augment.statistics import MARGIN, compare, holm, subjects_saved

STUDIES = 1000


def draws_of(draws, seeds):
    return [draw for draw in range(draws) for _ in range(seeds)]


def simulated(rng, subjects, draws, seeds, *, of_subjects=3, of_draws=0.3, of_seeds=0.3, of_both=0.5, noise=2):
    """Two arms' difference without effect, (runs, subjects): standard deviations in Dice points.

    One draw is all training subjects, of which there is no other.
    """
    one = rng.standard_normal
    of_draws = of_draws if draws > 1 else 0
    total = of_subjects * one((1, 1, subjects)) + of_draws * one((draws, 1, 1)) + of_seeds * one((draws, seeds, 1))
    total = total + of_both * one((draws, 1, subjects)) + noise * one((draws, seeds, subjects))
    return total.reshape(draws * seeds, subjects)


def studies(size, spreads, count):
    """Contrasts of studies without effect, whose effects of subjects and runs have these spreads in turn."""
    rng = np.random.default_rng(size)
    found = []
    for number in range(count):
        difference = simulated(rng, *size, **spreads[number % len(spreads)])
        common = rng.normal(70, 10, difference.shape)  # what both arms share cancels
        found.append(compare(common + difference, common, draws_of(*size[1:]), resamples=1999))
    return found


def covers(contrasts):
    return np.mean([one.low <= 0 <= one.high for one in contrasts])


def found_at_its_own_size(contrasts):
    """How often an effect of the size that a study prints is found: the interval then lies so much higher."""
    return np.mean([one.low + one.detectable > 0 for one in contrasts])


DEFAULT, SMALL = (50, 3, 3), (8, 3, 2)
"""Subjects, draws, seeds."""

SPREADS = (
    {},
    {"of_subjects": 1, "of_draws": 1, "of_seeds": 0.5, "noise": 1},
    {"of_draws": 0, "of_seeds": 0, "of_both": 0, "noise": 1},
)


@pytest.mark.parametrize("size", [DEFAULT, SMALL], ids=str)
def test_the_interval_covers_95_percent_of_1000_studies_without_effect(size):
    contrasts = studies(size, SPREADS, 1000)
    assert covers(contrasts) == pytest.approx(0.95, abs=0.02)
    assert found_at_its_own_size(contrasts) == pytest.approx(0.80, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPREADS, ids=["all", "runs", "subjects"])
@pytest.mark.parametrize("size", [(50, 3, 3), (50, 5, 3), (20, 3, 3), (10, 3, 1), (6, 3, 2), (10, 1, 3)], ids=str)
def test_other_sizes_of_study_are_covered_as_well(size, spread):
    contrasts = studies(size, [spread], 3000)
    assert covers(contrasts) == pytest.approx(0.95, abs=0.03)  # 0.02, and what 3,000 studies leave open
    assert found_at_its_own_size(contrasts) == pytest.approx(0.80, abs=0.05)


def test_a_study_finds_the_size_that_such_studies_print():
    printed = np.mean([one.detectable for one in studies(DEFAULT, SPREADS[:1], 400)])
    rng = np.random.default_rng(7)
    p = [
        compare(printed + simulated(rng, *DEFAULT), np.zeros((9, 50)), draws_of(3, 3), resamples=1999).p
        for _ in range(400)
    ]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.80, abs=0.06)


def test_a_plain_percentile_bootstrap_covers_too_few_of_the_same_studies():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        difference = simulated(rng, *SMALL, **SPREADS[1]).reshape(3, 2, 8).mean(axis=1)
        means = difference[rng.integers(3, size=(999, 3))[:, :, None], rng.integers(8, size=(999, 1, 8))].mean(
            (1, 2)
        )
        low, high = np.quantile(means, [0.025, 0.975])
        covered.append(low <= 0 <= high)
    assert np.mean(covered) < 0.9


def test_with_one_run_and_few_subjects_it_is_students_t():
    difference = np.random.default_rng(1).normal(1, 2, (1, 7))
    one = compare(difference, np.zeros((1, 7)), ["all"])
    low, high = stats.t.interval(0.95, 6, difference.mean(), stats.sem(difference[0]))
    assert (one.estimate, one.low, one.high) == pytest.approx((difference.mean(), low, high), abs=2e-3)
    assert one.p == pytest.approx(stats.ttest_1samp(difference[0], 0).pvalue, abs=1e-3)
    t = stats.t.ppf([0.975, 0.8], 6).sum()
    assert one.detectable == pytest.approx(t * stats.sem(difference[0]), rel=1e-2)


def test_with_many_subjects_it_is_the_normal_interval_of_their_means_over_runs():
    difference = np.random.default_rng(1).normal(1, 2, (1, 300))
    one = compare(difference, np.zeros((1, 300)), ["all"])
    half = 1.96 * 2 / 300**0.5
    assert (one.high - one.low) / 2 == pytest.approx(half, rel=0.08)
    assert one.detectable == pytest.approx((1.96 + 0.84) / 1.96 * half, rel=0.08)


def test_draws_alone_have_their_own_degrees_of_freedom():
    by_draw = np.array([0.5, 1.0, 2.5])
    one = compare(np.repeat(by_draw[:, None], 40, axis=1), np.zeros((3, 40)), [0, 1, 2])
    low, high = stats.t.interval(0.95, 2, by_draw.mean(), stats.sem(by_draw))
    assert (one.low, one.high) == pytest.approx((low, high), rel=5e-3)
    assert (one.draws, one.subjects) == (3, 40)


def test_seeds_are_averaged_within_their_draw():
    rng = np.random.default_rng(3)
    runs = rng.normal(size=(9, 20))
    averaged = runs.reshape(3, 3, 20).mean(axis=1)
    one, other = compare(runs, 0 * runs, draws_of(3, 3)), compare(averaged, 0 * averaged, [0, 1, 2])
    assert (one.low, one.high, one.p, one.draws) == pytest.approx((other.low, other.high, other.p, 3))


def test_the_seeds_of_the_only_draw_count_as_draws():
    runs = np.random.default_rng(3).normal(size=(3, 20))
    one, other = compare(runs, 0 * runs, ["all"] * 3), compare(runs, 0 * runs, [0, 1, 2])
    assert (one.low, one.high, one.p, one.draws) == pytest.approx((other.low, other.high, other.p, 3))


def test_subjects_without_the_organ_in_some_run_are_left_out():
    rng = np.random.default_rng(4)
    a, b = rng.normal(70, 5, (2, 3, 12))
    with_gaps = a.copy()
    with_gaps[1, 2] = with_gaps[:, 7] = np.nan
    kept = np.delete(np.arange(12), [2, 7])
    assert compare(with_gaps, b, [0, 1, 2]) == compare(a[:, kept], b[:, kept], [0, 1, 2])


def test_an_arm_equals_itself():
    scores = np.random.default_rng(5).normal(70, 5, (9, 50))
    one = compare(scores, scores, draws_of(3, 3))
    assert (one.estimate, one.low, one.high, one.p, one.detectable) == (0, 0, 0, 1, 0)
    assert one.equivalent


def test_swapped_arms_give_the_opposite():
    a, b = np.random.default_rng(6).normal(70, 5, (2, 3, 30))
    one, other = compare(a, b, [0, 1, 2]), compare(b, a, [0, 1, 2])
    assert one.estimate == pytest.approx(-other.estimate)
    assert (one.low, one.p) == pytest.approx((-other.high, other.p), abs=0.1)


@pytest.mark.parametrize("effect", [0.0, 0.3, 0.6, 1.0])
def test_p_and_interval_agree(effect):
    rng = np.random.default_rng(8)
    for _ in range(20):
        one = compare(effect + simulated(rng, 30, 3, 2), np.zeros((6, 30)), draws_of(3, 2), resamples=999)
        assert (one.p <= 0.05) == (one.low > 0 or one.high < 0)


@pytest.mark.parametrize(("shift", "equivalent"), [(0, True), (0.35, True), (0.6, False), (-0.6, False)])
def test_no_effect_is_an_interval_within_half_a_point(shift, equivalent):
    difference = np.random.default_rng(9).normal(0, 0.2, (3, 50))
    difference += shift - difference.mean()
    one = compare(difference, np.zeros((3, 50)), [0, 1, 2])
    assert one.equivalent == equivalent == (max(-one.low, one.high) < MARGIN)


def test_a_wide_interval_around_zero_is_not_equivalence():
    difference = np.random.default_rng(9).normal(0, 20, (3, 6))
    one = compare(difference - difference.mean(), np.zeros((3, 6)), [0, 1, 2])
    assert one.p > 0.05
    assert not one.equivalent


@pytest.mark.parametrize("subjects", [0, 1])
def test_fewer_than_two_subjects_have_no_interval(subjects):
    one = compare(np.ones((3, subjects)), np.zeros((3, subjects)), [0, 1, 2])
    assert np.isnan([one.low, one.high, one.p, one.detectable]).all()
    assert not one.equivalent
    assert np.isnan(one.estimate) if not subjects else one.estimate == 1


@pytest.mark.parametrize(
    ("a", "b", "draws"),
    [(np.ones((3, 4)), np.ones((3, 5)), 3), (np.ones(4), np.ones(4), 4), (np.ones((3, 4)),) * 2 + (2,)],
)
def test_scores_of_other_shapes_are_an_error(a, b, draws):
    with pytest.raises(ValueError, match=r"\(runs, subjects\)"):
        compare(a, b, list(range(draws)))


def test_holm_of_a_worked_example():
    # sorted .005, .010, .030, .040 times 4, 3, 2, 1, and none below the one before
    assert holm([0.010, 0.040, 0.030, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])


def test_holm_rejects_one_of_true_hypotheses_in_5_percent_of_families():
    p = np.random.default_rng(0).uniform(size=(4000, 10))
    assert np.mean([(holm(family) <= 0.05).any() for family in p]) == pytest.approx(0.05, abs=0.012)


def test_holm_leaves_out_what_was_not_tested():
    assert holm([0.02, np.nan, 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_subjects_saved_on_a_curve_that_rises_with_each_doubling():
    counts = np.array([10, 20, 40, 80])
    real = 60 + 5 * np.log2(counts / 10)
    assert subjects_saved(counts, real, 20, 70) == pytest.approx((20, False))
    assert subjects_saved(counts, real, 20, 67.5) == pytest.approx((20 * 2**0.5 - 20, False))
    assert subjects_saved(counts, real, 20, 60) == pytest.approx((-10, False))


@pytest.mark.parametrize(("score", "saved"), [(90, 60), (50, -10)])
def test_a_score_beyond_the_curve_is_worth_its_end(score, saved):
    assert subjects_saved([10, 20, 80], [60, 65, 75], 20, score) == pytest.approx((saved, True))


def test_a_plateau_is_worth_its_beginning():
    assert subjects_saved([10, 20, 40, 80], [60, 70, 68, 75], 10, 70) == pytest.approx((10, False))


def test_a_curve_of_subjects_that_do_not_rise_is_an_error():
    with pytest.raises(ValueError, match="rise"):
        subjects_saved([20, 10], [1, 2], 10, 1)
