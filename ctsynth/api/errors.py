"""What an argument or a file causes, as Python has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctsynth.errors import DataError, UsageError


def as_path(path: str | Path | None) -> Path | None:
    """A path as commands have it."""
    return None if path is None else Path(path)


@contextmanager
def value_errors() -> Iterator[None]:
    """What an argument or a file causes, as a ``ValueError`` with the remedy."""
    try:
        yield
    except (UsageError, DataError) as error:
        raise ValueError(f"{error.message}; {error.hint}" if error.hint else error.message) from error
