"""I/N: the I-th of N parts of a list, for job arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from ctsynth.errors import UsageError

T = TypeVar("T")


def parse(shard: str) -> tuple[int, int]:
    """(I, N) of ``I/N``, I from 1 to N.

    Raises:
        UsageError: It is of another form.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"--shard {shard}: wanted I/N with I from 1 to N, such as 1/8")
    return index, count


def take(items: Sequence[T], shard: str) -> list[T]:
    """Every N-th of the items, beginning with the I-th."""
    index, count = parse(shard)
    return list(items[index - 1 :: count])
