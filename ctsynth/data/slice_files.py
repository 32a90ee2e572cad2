"""Slices read from the store's arrays by offset, past a memory map, whose pages stay with a process."""

from __future__ import annotations

import os
import resource
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.arrays import AGAIN
from ctsynth.data.store import Subject
from ctsynth.errors import DataError, explain, is_out_of_files

_ARRAYS_A_SUBJECT = 2

_OTHER_FILES = 512
"""Descriptors left to the rest of the process where the limit can be raised that far."""

_Array = tuple[str, str]
"""A subject's name and ``ct`` or ``mask``."""

_Form = tuple[int, int, int]
"""Inode, bytes and time of change of a file: another form is another file."""


class SliceFiles:
    """The arrays of many subjects, of which only those used last stay open. Threads may share it.

    An array is compared with its SHA-256 before its first slice is read, and again if the file has been replaced
    by the time that it is opened again.

    Args:
        subjects: How many subjects there are. The soft limit of open files is raised for all of them, as far as it
            may be.
    """

    def __init__(self, subjects: int) -> None:
        self._most = _room(_ARRAYS_A_SUBJECT * subjects)
        self._open: OrderedDict[_Array, int] = OrderedDict()
        self._verified: dict[_Array, tuple[_Form, int]] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def read(self, subject: Subject, name: str, place: int, into: NDArray[Any]) -> None:
        """Reads one slice of a subject's ``ct`` or ``mask``.

        Args:
            subject: The subject.
            name: ``ct`` or ``mask``.
            place: The slice's number in the subject.
            into: (size, size), C-contiguous, of the array's type.

        Raises:
            DataError: The file is gone, damaged, another one, or ends within the slice.
            RunError: The process may open no more files.
        """
        key = subject.name, name
        with self._lock:
            try:
                if key not in self._open:
                    while len(self._open) >= self._most:
                        os.close(self._open.popitem(last=False)[1])
                    self._open[key] = self._opened(subject, name)
                self._open.move_to_end(key)
                os.lseek(self._open[key], self._verified[key][1] + place * into.nbytes, os.SEEK_SET)
                count = os.readv(self._open[key], [into.data])
            except OSError as error:
                if is_out_of_files(error):
                    raise explain(error, f"reading {name}.npy") from error
                raise DataError(f"{_path(subject, name)}: cannot read slice {place}: {error.strerror}") from error
        if count != into.nbytes:
            raise DataError(f"{_path(subject, name)}: it ends within slice {place}", hint=AGAIN)

    def _opened(self, subject: Subject, name: str) -> int:
        path, key = _path(subject, name), (subject.name, name)
        if key in self._verified:
            file = os.open(path, os.O_RDONLY)
            if _form(file) == self._verified[key][0]:
                return file
            os.close(file)
        mapped = subject.ct() if name == "ct" else subject.mask()
        assert isinstance(mapped, np.memmap)
        file = os.open(path, os.O_RDONLY)
        self._verified[key] = _form(file), mapped.offset
        return file


def _path(subject: Subject, name: str) -> Path:
    return subject.folder / f"{name}.npy"


def _form(file: int) -> _Form:
    about = os.fstat(file)
    return about.st_ino, about.st_size, about.st_mtime_ns


def _close_all(files: OrderedDict[_Array, int]) -> None:
    for file in files.values():
        os.close(file)


def _room(wanted: int) -> int:
    """How many files may stay open: those wanted, or a quarter of the limit where it is too low for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted + _OTHER_FILES:
        soft = wanted + _OTHER_FILES if hard == unlimited else min(wanted + _OTHER_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == unlimited or soft >= wanted + _OTHER_FILES else max(2, soft // 4)
