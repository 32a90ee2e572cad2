"""What a study concludes from given Dice: gains, and the two contrasts' p values as one family."""

from __future__ import annotations

import numpy as np
import pytest

from ctsynth.augment.plan import StudyConfig, make_plan
from ctsynth.augment.results import Results
from ctsynth.augment.statistics import holm

ARMS = ("R", "R+C", "R+Dr", "R+D")

LIVER = {"R": 0.60, "R+C": 0.62, "R+Dr": 0.61, "R+D": 0.70}
"""Dice without noise."""


@pytest.fixture(scope="module")
def results(study_store) -> Results:
    """Two fractions; each test subject and run has noise of its own."""
    plan = make_plan(study_store, StudyConfig(arms=ARMS, fractions=(0.5, 1.0), draws=2, seeds=2, doses=(1,)))
    rng = np.random.default_rng(0)
    names = [subject.name for subject in study_store.subjects("test")]
    absent = {organ.name: None for organ in study_store.labels.classes}
    records = {}
    for run in plan.runs:
        dice = {name: absent | {"liver": LIVER[run.arm.name] + rng.normal(0, 0.01)} for name in names}
        records[run] = {"measured": {"dice": dice, "nsd": dice}, "seconds": 36.0}
    return Results(study_store, plan, records)


def test_a_gain_is_over_the_real_arm_of_the_same_fraction(results):
    for row in results.rows:
        wanted = None if row.arm == "R" else 100 * (LIVER[row.arm] - LIVER["R"])
        assert (row.gain and row.gain.estimate) == (wanted and pytest.approx(wanted, abs=3)), row.arm


def test_the_p_values_of_both_contrasts_at_all_fractions_are_one_family(results):
    found = results.headlines
    assert [(one.arms, one.fraction) for one in found] == [
        (("R+D", other), fraction) for other in ("R+Dr", "R+C") for fraction in (0.5, 1.0)
    ]
    assert [one.adjusted for one in found] == pytest.approx(list(holm([one.difference.p for one in found])))
    assert max(one.adjusted for one in found) > max(holm([one.difference.p for one in found[:2]]))


def test_hours_are_those_of_each_arm(results):
    assert results.hours == {"generators": 0.0} | dict.fromkeys(ARMS, pytest.approx(6 * 36 / 3600))
