"""The JSON file beside a volume that was made here: what made it, and by SHA-256 whether it is still the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from ctsynth.data.formats import is_dicom, record_beside
from ctsynth.data.volume import Volume, codec
from ctsynth.errors import CTSynthError, DataError, RunError
from ctsynth.files import read_json, remove_leftovers, sha256, write_json

DIGEST = "volume_sha256"
"""Entry of the record. It is null while the volume is being written; early records have none."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells our volumes from others.

    Args:
        description: What their headers begin with.
        entries: What their records hold, whatever else.
    """

    description: str
    entries: frozenset[str]


class Standing(Enum):
    """How a volume stands to its record."""

    FREE = auto()
    """There is no volume, and no file in its record's place that is none."""

    WHOLE = auto()
    """It is what its record says."""

    DAMAGED = auto()
    """It cannot be read to its end, or its writing was interrupted."""

    CHANGED = auto()
    """It can be read, and is not what its record says."""

    FOREIGN = auto()
    """No record of ours stands beside it, or one that is of another volume."""


def look(path: Path, kind: Kind) -> tuple[Standing, dict[str, Any]]:
    """How a volume stands to its record, and that; empty where there is none."""
    beside = record_beside(path)
    if not os.path.lexists(path) and not os.path.lexists(beside):
        return Standing.FREE, {}
    record = _read(beside, kind)
    if record is None:
        return Standing.FOREIGN, {}
    if not os.path.lexists(path):
        return Standing.FREE, record
    return _compare(path, record, kind), record


def _read(path: Path, kind: Kind) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except DataError:
        return None
    return content if isinstance(content, dict) and kind.entries <= content.keys() else None


def _compare(path: Path, record: Mapping[str, Any], kind: Kind) -> Standing:
    if not (path.is_file() or is_dicom(path)):
        return Standing.FOREIGN
    if record.get(DIGEST) == sha256(path):
        return Standing.WHOLE
    is_whole = True
    try:
        Volume.load(path)
    except CTSynthError:
        is_whole = False
    description = codec(path).description(path)
    if (is_whole or description) and not description.startswith(kind.description):
        return Standing.FOREIGN
    if not is_whole or record.get(DIGEST, "") is None:
        return Standing.DAMAGED
    return Standing.CHANGED if DIGEST in record else Standing.WHOLE


def claim(path: Path, record: Mapping[str, Any]) -> None:
    """Writes the record of a volume that is about to be made; until it is, the volume there is not whole.

    Raises:
        RunError: The record cannot be written.
    """
    write_json(record_beside(path), {**record, DIGEST: None})


def save(
    volume: Volume,
    path: Path,
    description: str,
    record: Mapping[str, Any],
    window: tuple[float, float] | None = None,
) -> None:
    """Writes a volume and its record: first that the name is taken, last the hash of what was written.

    So a volume without a record is never ours, and an interrupted one is known.

    Raises:
        RunError: One of them cannot be written.
    """
    beside = record_beside(path)
    for file in (path, beside):
        remove_leftovers(file)
    claim(path, record)
    try:
        volume.save(path, description, window)
    except RunError:
        if not path.exists():
            beside.unlink(missing_ok=True)
        raise
    write_json(beside, {**record, DIGEST: sha256(path)})
