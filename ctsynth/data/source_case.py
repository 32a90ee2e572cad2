"""A subject of a data set that is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SourceCase:
    """One subject's files.

    Args:
        name: As in its files' names, without ``_0000`` and suffix.
        split: ``train`` or ``test``.
        image: CT in HU.
        label: Label volume; it may turn out not to exist.
    """

    name: str
    split: str
    image: Path
    label: Path
