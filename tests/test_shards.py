import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctsynth.errors import UsageError
from ctsynth.shards import parse, take


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shards_part_the_items_and_differ_by_one_at_most(items, count):
    parts = [take(items, f"{index}/{count}") for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == sorted(items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_one_shard_of_one_is_all():
    assert take([3, 1, 2], "1/1") == [3, 1, 2]
    assert parse("2/8") == (2, 8)


@pytest.mark.parametrize(
    "shard", ["0/2", "3/2", "2", "1/0", "-1/2", "1/2/3", "a/b", "", "1/2 ", f"1/{'9' * 5000}"]
)
def test_anything_else_is_refused(shard):
    with pytest.raises(UsageError, match="wanted I/N"):
        parse(shard)


@pytest.mark.parametrize(
    ("task", "first", "last", "count", "step", "shard"),
    [
        (1, 1, 8, 8, 1, (1, 8)),
        (0, 0, 3, 4, 1, (1, 4)),
        (7, 1, 9, 3, 4, None),
        (9, 1, 9, 3, 4, (3, 3)),
        (5, 1, 5, 2, 1, None),
    ],
)
def test_a_task_of_a_job_array_is_a_shard(task, first, last, count, step, shard):
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    env = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}
    if shard is None:
        with pytest.raises(UsageError, match="has gaps"):
            parse("slurm", env)
    else:
        assert parse("slurm", env) == shard


def test_shard_slurm_outside_an_array_is_refused():
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_ID"):
        parse("slurm", {})


@pytest.mark.parametrize("value", ["many", "-1", "1.0", "²", "9" * 5000])
def test_a_slurm_variable_that_is_not_a_number_is_named(value):
    with pytest.raises(UsageError, match=r"^the environment has SLURM_ARRAY_TASK_ID='.*, wanted a whole number"):
        parse("slurm", {"SLURM_ARRAY_TASK_ID": value})
