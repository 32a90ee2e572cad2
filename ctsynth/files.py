"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import logging
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ctsynth.errors import DataError, RunError, WriteError

log = logging.getLogger(__name__)

_LONGEST = 200
"""Bytes of a name that a half-written file shows whole."""

_MOST_JSON = 64 << 20
"""Bytes of the largest JSON file that is read."""

_DEEPEST_JSON = 50
"""Levels of the deepest one; what walks through it may call itself as often."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames what was written there, a file or a folder, on success.

    The temporary name keeps the suffixes, which some writers choose their format by. On failure it is removed.

    Raises:
        RunError: The folder cannot be written to, or the disk is full.
    """
    if not path.name:
        raise WriteError(f"{path}: cannot write it: it is a folder", hint="name a file in it")
    number = secrets.randbelow(10**12)  # and not the process id, which containers share
    partial = path.with_name(f".partial-{number}-{_short(path.name)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _sync(partial)
        if path.is_dir() and partial.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        raise WriteError(f"{path}: cannot write it: {error.strerror or error}", hint=_write_hint(error)) from error
    finally:
        with suppress(OSError):  # the folder itself may not be one
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _short(name: str) -> str:
    """A name that leaves room for the mark of a half-written file within the 255 bytes of a file system."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return name if len(os.fsencode(name)) <= _LONGEST else digest + "".join(Path(name).suffixes[-2:])[-16:]


def remove_leftovers(path: Path) -> None:
    """Removes what processes that were killed while they wrote this very file or folder left beside it."""
    for other in path.parent.glob(".partial-*"):
        if re.fullmatch(rf"\.partial-\d+-{re.escape(_short(path.name))}", other.name):
            _remove(other)


@contextmanager
def sole(path: Path) -> Iterator[None]:
    """Holds a lock file while the work is done: a second process gets an error and writes nothing.

    The lock is the file system's own (flock) and ends with its process, however that ends.

    Raises:
        RunError: Another process holds it, or the folder cannot be written to.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    handle = _locked(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        handle.close()
        with suppress(OSError):  # they hold what the work has made, or nothing
            for folder in made:
                folder.rmdir()


def _locked(path: Path) -> IO[bytes]:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("ab")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise RunError(
                f"{path.parent}: another process is at work on it",
                hint="wait for it to end, or name another folder",
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                log.warning(
                    "%s: this file system has no locks; see that only one process works on it", path.parent
                )
                return handle
            message = f"{path.parent}: cannot write it: {error.strerror}"
            raise WriteError(message, hint=_write_hint(error)) from error
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle.fileno()).st_ino:
                return handle
        handle.close()  # the process before has just removed it


def _write_hint(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, then run the same command again: finished work is kept"
    if error.errno == errno.ENAMETOOLONG:
        return "name it shorter: a file system takes 255 bytes"
    return "choose another output folder, or change its permissions"


def _sync(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files need not be UTF-8


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Reads a JSON file.

    Raises:
        DataError: There is no such file, or it holds no JSON, or numbers that are not finite, or more or deeper
            lists and objects than any file of ours.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_JSON + 1)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read it: {error.strerror}") from error
    return parse_json(text, str(path))


def parse_json(text: bytes, source: str) -> Any:  # noqa: ANN401
    """Parses JSON as ``read_json`` does; ``source`` is named in messages.

    Raises:
        DataError: As of ``read_json``.
    """
    try:
        if len(text) > _MOST_JSON:
            raise DataError(f"{source}: more than {_MOST_JSON >> 20} MiB are no JSON file of ctsynth's")
        content = json.loads(text.decode("utf-8-sig"), parse_constant=_finite, parse_float=_finite)
        if b"\\u" in text:
            json.dumps(content, ensure_ascii=False).encode(errors="surrogateescape")  # refuses half of a pair
        if _depth(content) > _DEEPEST_JSON:
            raise RecursionError
    except ValueError as error:
        raise DataError(f"{source}: not a JSON file: {error}") from error
    except RecursionError:
        raise DataError(f"{source}: lists or objects nested more than {_DEEPEST_JSON} deep") from None
    return content


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no finite number")
    return value


def _depth(content: object) -> int:
    """How deep lists and objects are nested, as far as it matters."""
    level, depth = [content], 0
    while depth <= _DEEPEST_JSON and (level := [item for item in level if isinstance(item, dict | list)]):
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
        depth += 1
    return depth


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, or of the names and bytes of a folder's files, in hexadecimal."""
    if path.is_dir():
        hashes = {file.name: sha256(file) for file in sorted(path.iterdir()) if file.is_file()}
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class HashedFile:
    """A new file whose SHA-256 is taken by a thread beside the writing, so that it need not be read again.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file, self._hash = path.open("wb"), hashlib.sha256()
        self._beside = ThreadPoolExecutor(1)

    def write(self, data: bytes | memoryview) -> int:
        """Writes and hashes all of it."""
        hashing = self._beside.submit(self._hash.update, data)
        try:
            return self._file.write(data)
        finally:
            hashing.result()

    def flush(self) -> None:
        """Hands all that was written to the system."""
        self._file.flush()

    @property
    def sha256(self) -> str:
        """Hash of what was written, in hexadecimal."""
        return self._hash.hexdigest()

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.shutdown()
        self._file.close()


_PACKAGE = Path(__file__).parent
_COMPUTES_NOTHING = ("api", "cli", "reporting", "sharing")  # no kept result depends on their code


@functools.cache
def code_digest(*parts: str) -> str:
    """A SHA-256 of ctsynth's own code, so that what other code has computed and kept is not taken for its own.

    Args:
        parts: Files and folders of the package, ``data/window.py``; all that computes if none is given.
    """
    named = [_PACKAGE / part for part in parts]
    named = named or [path for path in _PACKAGE.iterdir() if path.name not in _COMPUTES_NOTHING]
    assert all(path.exists() for path in named), parts
    files = [file for file in sorted(_PACKAGE.rglob("*.py")) if any(map(file.is_relative_to, named))]
    hashes = {file.relative_to(_PACKAGE).as_posix(): sha256(file) for file in files}
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
