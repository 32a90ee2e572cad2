"""Which subjects and runs a study has."""

from types import SimpleNamespace

import pytest

from ctsynth.augment.arms import ARMS, PROTOCOL, arms_of
from ctsynth.augment.cells import make_cells
from ctsynth.augment.plan import StudyConfig, make_plan
from ctsynth.errors import UsageError

NAMES = [f"amos_{number:04}" for number in range(40)]


def store(train=40, test=3):
    """What a plan looks at."""
    splits = {"train": NAMES[:train], "test": ["t"] * test}
    return SimpleNamespace(
        root="out", subjects=lambda split: [SimpleNamespace(name=name) for name in splits[split]]
    )


def test_fractions_of_a_draw_are_nested_and_draws_differ():
    cells = make_cells(NAMES, (0.1, 0.25, 0.5, 1.0), 3, seed=0)
    by_place = {(cell.fraction, cell.draw): cell for cell in cells}
    assert [len(by_place[f, 0].train + by_place[f, 0].validation) for f in (0.1, 0.25, 0.5, 1.0)] == [
        4,
        10,
        20,
        40,
    ]
    for draw in range(3):
        for small, large in ((0.1, 0.25), (0.25, 0.5)):
            for kind in ("train", "validation"):
                subset, whole = (set(getattr(by_place[f, draw], kind)) for f in (small, large))
                assert subset <= whole
    assert len({frozenset(by_place[0.1, draw].train + by_place[0.1, draw].validation) for draw in range(3)}) == 3
    assert [cell.draw for cell in cells if cell.fraction == 1] == [0]


def test_a_tenth_chooses_the_checkpoint_and_nothing_is_in_two_places():
    for cell in make_cells(NAMES, None, 2, seed=5):
        assert len(cell.validation) == max(1, -(-cell.subjects // 10))
        everyone = [*cell.train, *cell.validation, *cell.further]
        assert sorted(everyone) == NAMES


def test_fractions_that_were_not_named_are_left_out_where_they_do_not_differ():
    assert [cell.fraction for cell in make_cells(NAMES[:8], None, 1, seed=0)] == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("fractions", "draws", "message"),
    [
        ((0.0,), 1, "`fractions`: 0, wanted above 0 and at most 1"),
        ((1.5,), 1, "`fractions`: 1.5, wanted above 0 and at most 1"),
        ((0.01,), 1, "`fractions`: 0.01 of 40 training subjects is 0 of them"),
        ((0.1, 0.11), 1, "is 4 of them, as many as another"),
        ((0.05,), 781, "can be drawn in 780 ways only"),
    ],
)
def test_impossible_fractions_and_draws_are_refused(fractions, draws, message):
    with pytest.raises(UsageError, match=message):
        make_cells(NAMES, fractions, draws, seed=0)


def test_every_draw_that_there_is_is_found():
    cells = make_cells(NAMES[:4], (0.5,), 6, seed=0)
    assert len({frozenset(cell.train + cell.validation) for cell in cells}) == 6


def test_the_runs_of_the_protocol():
    plan = make_plan(store(), StudyConfig(fractions=(0.25, 1.0), draws=2, seeds=3))
    labels = {(run.arm.name, run.dose) for run in plan.runs if run.cell.fraction == 0.25}
    dosed = {(name, dose) for name in ("R+Dr", "R+S", "R+D") for dose in (1, 2, 4)}
    assert labels == dosed | {("R", 1), ("R+C", 1), ("S", 1), ("D", 1), ("R+R'", 1)}
    assert len(plan.runs) == 3 * (2 * 14 + 13)
    assert plan.left_out == ("R+R' at 100 %: it takes 36 further subjects, and there are 0",)
    quarter = plan.cells[0]
    assert plan.volumes(quarter) == 9 * (4 + 4)
    assert plan.draws_volumes(quarter)
    assert not make_plan(store(), StudyConfig(arms=("R+C",))).draws_volumes(quarter)
    assert len({run.folder for run in plan.runs}) == len(plan.runs)


def test_arms_by_name():
    assert arms_of("R+D,R+R") == ("R", "R+D", "R+R'")
    assert arms_of("controls") == ("R", "R+real", "R+mean", "R+shuffled")
    assert set(PROTOCOL) | set(arms_of("controls")) == set(ARMS)
    with pytest.raises(UsageError, match="no arm is called 'Q'"):
        arms_of("R,Q")


def test_a_study_needs_test_subjects():
    with pytest.raises(UsageError, match="no test subjects"):
        make_plan(store(test=0), StudyConfig())
