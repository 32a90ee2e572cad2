"""What a metric has measured of each subject, kept on disk so that it is measured once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import ArrayLike, NDArray

from ctsynth.errors import DataError, RunError
from ctsynth.files import atomic, remove_leftovers
from ctsynth.outputs import refuse_foreign

log = logging.getLogger(__name__)

Record = Mapping[str, ArrayLike]
"""What a metric measures of one subject, by name: numbers or text, or arrays of them."""

Arrays = Mapping[str, NDArray[Any]]
"""A record as it is read from disk."""

_ENTRY = "record/"


class Records(Mapping[str, Arrays]):
    """A metric's records, FOLDER/SUBJECT.npz, in the order of the subjects; each is read when it is asked for.

    Args:
        folder: Where they lie.
        subjects: Whose they are.
    """

    def __init__(self, folder: Path, subjects: Sequence[str]) -> None:
        self._folder, self._subjects = folder, subjects

    def has(self, subject: str, key: str) -> bool:
        """Whether the subject's record is whole and depends on what ``key`` stands for."""
        try:
            with _opened(self._path(subject)) as file:
                return str(file["key"]) == _signed(key, _arrays(file))
        except FileNotFoundError:
            return False
        except Exception:  # numpy and zipfile raise a dozen kinds for damaged bytes
            log.warning("%s is damaged: measured again", self._path(subject))
            return False

    def keep(self, subject: str, key: str, record: Arrays) -> None:
        """Writes the subject's record, whole or not at all.

        Raises:
            UsageError: A user's file is there.
            RunError: It cannot be written.
        """
        refuse_foreign(self._path(subject), _is_own, "a record of what was measured")
        entries: dict[str, Any] = {f"{_ENTRY}{name}": values for name, values in record.items()}
        remove_leftovers(self._path(subject))
        with atomic(self._path(subject)) as partial:
            np.savez(partial, **entries | {"key": np.array(_signed(key, record))})

    def __getitem__(self, subject: str) -> Arrays:
        if subject not in self._subjects:
            raise KeyError(subject)
        path = self._path(subject)
        try:
            with _opened(path) as file:
                return _arrays(file)
        except Exception as error:
            raise DataError(f"{path}: cannot be read: {error}", hint="score again with `overwrite`") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._subjects)

    def __len__(self) -> int:
        return len(self._subjects)

    def _path(self, subject: str) -> Path:
        return self._folder / f"{subject}.npz"


class StoreRecords:
    """What is computed of a store's real slices, kept in the store so that it is computed once.

    Args:
        folder: Where the records lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unwritten: dict[str, Arrays] = {}

    def get(self, known: Mapping[str, Any], compute: Callable[[], Record]) -> Arrays:
        """A record, read if it is there, else computed.

        Args:
            known: All that it depends on, as JSON.
            compute: Makes the record.
        """
        key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        if key in self._unwritten:
            return self._unwritten[key]
        kept = Records(self._folder, [key])
        if kept.has(key, key):
            return kept[key]
        record = {name: np.asarray(values) for name, values in compute().items()}
        try:
            kept.keep(key, key, record)
        except RunError as error:  # a store that others own: computed again next time
            log.debug("%s", error.message)
            self._unwritten[key] = record
        return record


def _is_own(path: Path) -> bool:
    """Whether a file is a record, or damaged beyond telling."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return "key" in file.files
    except Exception:
        return True


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    """A record's file, as ``keep`` writes it: nothing in it unpacks to more than it takes on disk."""
    with np.load(path, allow_pickle=False) as file:
        if file.zip is None or any(entry.compress_type for entry in file.zip.infolist()):
            raise ValueError("not as it was written")
        yield file


def _arrays(file: NpzFile) -> Arrays:
    return {name.removeprefix(_ENTRY): file[name] for name in file.files if name.startswith(_ENTRY)}


def _signed(key: str, record: Arrays) -> str:
    """The key with a SHA-256 of what was measured, so that a damaged record is known before it is used."""
    content = hashlib.sha256()
    for name, values in sorted(record.items()):
        content.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        content.update(np.ascontiguousarray(values).tobytes())
    return f"{key} {content.hexdigest()}"
