"""The folder of a report: its files come into it together, and over nothing but an earlier report's."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.files import remove_leftovers, sha256, write_json
from ctsynth.outputs import refuse_foreign
from ctsynth.schema import read

RECORD = "report.json"
"""Holds what the report is about, and the SHA-256 of its files."""

SCHEMA = 1
"""Schema of the record."""


class _Record(TypedDict):
    inputs: list[str]
    files: dict[str, list[str]]


@contextmanager
def replaced(out: Path, inputs: Sequence[Path], *, overwrite: bool) -> Iterator[Path]:
    """Yields an empty folder, whose files then take the place of an earlier report's in ``out``.

    Meanwhile the record lists the files of both, so that it can be interrupted anywhere.

    Args:
        out: The report's folder, which may hold other things.
        inputs: What the report is about.
        overwrite: An earlier report may be of other inputs, and may have been changed by hand.

    Raises:
        UsageError: A file there is no earlier report's, was changed, or shows what this report would not.
        RunError: A file cannot be written.
    """
    record = out / RECORD
    refuse_foreign(record, _is_record, f"the {RECORD} of a report")
    before: _Record = _read(record) if record.exists() else {"inputs": [], "files": {}}
    shown = [str(path.resolve()) for path in inputs]
    if not overwrite and (lost := [path for path in before["inputs"] if path not in shown]):
        raise UsageError(
            f"{out}: the report there shows {lost[0]}, and this one does not",
            hint="name another folder with `out`, or replace it with `overwrite`",
        )
    remove_leftovers(out / "report")
    staged = out / f".partial-{secrets.randbelow(10**12)}-report"
    try:
        staged.mkdir(parents=True)
        yield staged
        hashes = {path.name: [sha256(path)] for path in sorted(staged.iterdir())}
        for name in hashes:
            _refuse(out / name, before["files"].get(name), overwrite)
        both = {name: [*before["files"].get(name, []), *new] for name, new in hashes.items()}
        write_json(record, {"schema": SCHEMA, "inputs": shown, "files": before["files"] | both})
        for name in hashes:
            (staged / name).replace(out / name)
        write_json(record, {"schema": SCHEMA, "inputs": shown, "files": before["files"] | hashes})
    except OSError as error:
        raise RunError(f"{out}: cannot write it: {error.strerror}", hint="choose another output folder") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _read(path: Path) -> _Record:
    return read(path, _Record, schema=SCHEMA, hint="name another folder with `out`")


def _is_record(path: Path) -> bool:
    try:
        _read(path)
    except DataError:
        return False
    return True


def _refuse(path: Path, known: list[str] | None, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if known is None or not path.is_file():
        raise UsageError(
            f"{path}: not overwritten: it is not of an earlier report",
            hint="move it elsewhere, or name another folder with `out`",
        )
    if not overwrite and sha256(path) not in known:
        raise UsageError(
            f"{path}: changed since it was written",
            hint="keep it by another `out`, or replace it with `overwrite`",
        )
