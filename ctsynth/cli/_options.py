"""Checks of options that several commands have."""

from __future__ import annotations

from ctsynth.errors import UsageError
from ctsynth.schema import Range

SEEDS = Range(0, 2**63 - 1)


def check_seed(value: int | None) -> int | None:
    """A seed as it was given.

    Raises:
        UsageError: It is none of ``SEEDS``.
    """
    if value is not None and value not in SEEDS:
        raise UsageError(f"--seed is {value}, wanted a whole number {SEEDS}")
    return value
