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


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "1/0", "-1/2", "1/2/3", "a/b", "", "1/2 "])
def test_anything_else_is_refused(shard):
    with pytest.raises(UsageError, match="wanted I/N"):
        parse(shard)
