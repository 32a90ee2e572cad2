"""What a command may write: nowhere but in its own folders, over nothing that it reads or that is not its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ctsynth.errors import DataError, UsageError

_MOST = 255
"""Bytes of a name in a file system."""

_LONGEST = 240
"""Bytes of a name, so that a suffix and the mark of a half-written file fit into the 255 of a file system."""


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuses to overwrite a file or folder that is read, whatever path or link it is named by.

    Raises:
        UsageError: An output is an input.
    """
    read = {_identity(path): path for path in inputs}
    for path in outputs:
        known = read.get(identity) if (identity := _identity(path)) else None
        if known is not None:
            alias = "" if known == path else f", {known}"
            raise UsageError(f"{path}: this is an input{alias}; it is not overwritten", hint="name another output")


def refuse_foreign(path: Path, is_own: Callable[[Path], bool], what: str) -> None:
    """Refuses to overwrite a file that is no earlier result of the same kind, as its content shows.

    Args:
        path: The output.
        is_own: Whether a file is such a result.
        what: What it would be, for the message.

    Raises:
        UsageError: There is another file, or a folder.
    """
    if os.path.lexists(path) and not (path.is_file() and is_own(path)):
        raise UsageError(
            f"{path}: not overwritten: it is not {what}", hint="move it elsewhere, or name another output"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.resolve().stat()  # also of a path through a folder that is not there yet, x/..
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_length(path: Path, source: str) -> None:
    """Refuses an output whose name no file system takes.

    Args:
        path: The output.
        source: What it is made from, for the message.

    Raises:
        DataError: The name is too long.
    """
    if (length := len(os.fsencode(path.name))) > _MOST:
        raise DataError(
            f"{source}: the name of its output has {length} bytes, and a file's has at most {_MOST}",
            hint="name it shorter",
        )


def plain_name(name: object, source: str) -> str:
    """A name that a file's content gives to a file or folder, if it is one and no path to somewhere else.

    Args:
        name: From the content.
        source: The file, for the message.

    Raises:
        DataError: It has a separator in it, or is ``..`` or such, or is too long.
    """
    if (
        not isinstance(name, str)
        or name in ("", os.curdir, os.pardir)
        or {os.sep, "\0"} & set(name)
        or len(name.encode("utf-8", "surrogateescape")) > _LONGEST
    ):
        raise DataError(
            f"{source}: {name!r:.200} is no name of a file",
            hint=f"wanted at most {_LONGEST} bytes without a {os.sep}",
        )
    return name
