"""A subject's folder in a slice store: whose it is, and whether it is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctsynth.errors import DataError
from ctsynth.files import read_json, sha256

ARRAYS = ("ct", "mask")

_FILES = {"ct.npy", "mask.npy", "subject.json"}


def is_whole(root: Path, record: dict[str, Any]) -> bool:
    """Whether a subject's arrays are those that were written, by their SHA-256."""
    folder = root / record["split"] / record["name"]
    return all(sha256(folder / f"{name}.npy") == record.get(f"{name}_sha256") for name in ARRAYS)


def refuse_strangers(root: Path, split: str, name: str) -> None:
    """Refuses to write a subject where a user's folder lies.

    Raises:
        DataError: It is no folder that ``ctsynth preprocess`` made, or holds more than that.
    """
    folder = root / split / name
    if not _is_own(root, split, name):
        raise DataError(
            f"{folder}: there already, and not made by ctsynth preprocess alone",
            hint="move it elsewhere, or name another folder for the store",
        )


def remove(root: Path, split: str, name: str) -> None:
    """Removes a subject's folder if it is one that ``ctsynth preprocess`` made; a user's folder stays."""
    if _is_own(root, split, name):
        shutil.rmtree(root / split / name, ignore_errors=True)


def _is_own(root: Path, split: str, name: str) -> bool:
    """Whether nothing is there, or what its own record or else the manifest's says to be that subject's."""
    folder = root / split / name
    if not os.path.lexists(folder):
        return True
    if folder.is_symlink() or not folder.is_dir():
        return False
    files = {path.name for path in folder.iterdir()}
    return not files or (files <= _FILES and any(_names(record, split, name) for record in _records(root, folder)))


def _records(root: Path, folder: Path) -> list[object]:
    found = []
    with suppress(DataError, KeyError, TypeError):
        found.append(read_json(folder / "subject.json")["subject"])
    with suppress(DataError, KeyError, TypeError):
        found += read_json(root / "manifest.json")["subjects"]
    return found


def _names(record: object, split: str, name: str) -> bool:
    return isinstance(record, dict) and (record.get("split"), record.get("name")) == (split, name)
