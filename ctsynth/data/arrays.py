"""The arrays of a slice store, written whole and opened when they are what was written: by form and SHA-256."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ctsynth.errors import DataError, explain, is_out_of_files
from ctsynth.files import sha256

AGAIN = "make the store again: the same ctsynth preprocess makes what is damaged"


def open_array(
    path: Path, dtype: DTypeLike, shape: tuple[int, int, int], digest: str, highest: int | None = None
) -> NDArray[Any]:
    """A read-only memory map of a .npy file.

    Args:
        path: The file.
        dtype: That its numbers must have.
        shape: (Z, size, size), rows one after the other.
        digest: SHA-256 of the file. A process takes it once of a file, for as long as that does not change: 1.1 GB
            a second on one core, so 5 s for the paper's 26,069 slices, spread over the first epoch.
        highest: The highest label that a mask may hold.

    Raises:
        DataError: It cannot be read, or is another one.
        RunError: The process may open no more files.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises a dozen kinds for headers that are none
        if is_out_of_files(error):
            raise explain(error, f"reading {path.name}") from error
        raise DataError(f"{path}: cannot map it: {error}", hint=AGAIN) from error
    try:
        if (array.dtype, array.shape) != (np.dtype(dtype), shape) or not array.flags.c_contiguous:
            order = "" if array.flags.c_contiguous else " in Fortran order"
            found = f"{array.dtype} of shape {array.shape}{order}"
            raise DataError(f"{path}: {found}, wanted {np.dtype(dtype)} of {shape}", hint=AGAIN)
        about = path.stat()
        if _digest(path.absolute(), about.st_size, about.st_mtime_ns) != digest:
            raise DataError(f"{path}: damaged: its SHA-256 is not the one in the manifest", hint=AGAIN)
        if highest is not None and (label := _highest(path.absolute(), array.offset, about.st_mtime_ns)) > highest:
            raise DataError(f"{path}: it holds label {label}, and the label set ends at {highest}", hint=AGAIN)
    except OSError as error:
        raise DataError(f"{path}: cannot read it: {error.strerror}", hint=AGAIN) from error
    return array


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed: int) -> str:  # the last two are parts of the key
    return sha256(path)


@functools.lru_cache(maxsize=4096)
def _highest(path: Path, offset: int, changed: int) -> int:  # as above
    """The highest byte, read past the memory map, whose pages would stay with the process."""
    with path.open("rb") as file:
        file.seek(offset)
        pieces = iter(lambda: file.read(1 << 20), b"")
        return max((int(np.frombuffer(piece, np.uint8).max()) for piece in pieces), default=0)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Like ``np.save``, which writes by C's fwrite, whose errors do not say that the disk is full."""
    with path.open("wb") as file:
        np.lib.format.write_array(SimpleNamespace(write=file.write), array, allow_pickle=False)
