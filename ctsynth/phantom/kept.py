"""What is there already of a data set of phantoms; nothing else is overwritten."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from ctsynth.data import nifti
from ctsynth.data.find_volumes import volumes
from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json, sha256
from ctsynth.outputs import refuse_foreign
from ctsynth.phantom.case import NAME, PhantomCase

log = logging.getLogger(__name__)

_ANEW = "name another folder, or make it again with `overwrite`"
_SETTINGS = re.compile(
    rf"{NAME} (?P<version>\d+), not a patient; "
    r"(?P<size>\d+)x\d+x(?P<slices>\d+), seed (?P<seed>\d+), (?P<subject>\d+)"
)


def missing(out: Path, cases: list[PhantomCase], *, overwrite: bool) -> list[PhantomCase]:
    """The cases whose files are not there, whole and made with these settings.

    Args:
        out: The data set's folder.
        cases: All that it shall hold.
        overwrite: Make all again; phantoms of other settings are removed, and those that are none of the cases.

    Raises:
        UsageError: There are phantoms of other settings, or changed ones, or more than these.
        DataError: There is data that is no phantom; nothing was removed.
    """
    index = out / "dataset.json"
    refuse_foreign(index, _is_index, "the dataset.json of phantoms")
    hashes = dict(read_json(index).get("sha256", {})) if index.exists() else {}
    wanted = {path: case for case in cases for path in (case.image, case.label)}
    there = list(_volumes(out))
    for path in there:
        if path.relative_to(out).as_posix() not in hashes and not nifti.description(path).startswith(NAME):
            raise DataError(f"{path}: there is data here that is no phantom", hint="choose an empty folder")
    if overwrite:  # if this is interrupted, the same command continues without --overwrite
        for path in there:
            if path not in wanted or nifti.description(path) != wanted[path].description:
                path.unlink()
        index.unlink(missing_ok=True)
        return cases
    for path in there:
        _refuse_other(path, wanted.get(path))
    whole = {path for path in there if _is_whole(path, hashes.get(path.relative_to(out).as_posix()))}
    return [case for case in cases if not {case.image, case.label} <= whole]


def _volumes(out: Path) -> Iterator[Path]:
    for folder in (out / f"{kind}{end}" for kind in ("images", "labels") for end in ("Tr", "Va")):
        yield from volumes(folder) if folder.is_dir() else []


def _is_index(path: Path) -> bool:
    try:
        content = read_json(path)
    except DataError:
        return False
    return (
        isinstance(content, dict) and content.get("name") == NAME and isinstance(content.get("sha256", {}), dict)
    )


def _refuse_other(path: Path, case: PhantomCase | None) -> None:
    if case is None:
        raise UsageError(f"{path}: a phantom more than these, which would be removed", hint=_ANEW)
    now = _settings(case.description)
    for name, before in _settings(nifti.description(path)).items():
        if before != now[name]:
            raise UsageError(f"{path}: made with {name} {before}, not {now[name]}", hint=_ANEW)


def _settings(description: str) -> dict[str, str]:
    found = _SETTINGS.match(description)
    return found.groupdict() if found else {}


def _is_whole(path: Path, digest: object) -> bool:
    """Whether a file is as written; a file without a hash yet, of an interrupted run, need only be readable.

    Raises:
        UsageError: It can be read, and is something else.
    """
    if digest == sha256(path):
        return True
    try:
        nifti.read(path)
    except DataError:
        log.warning("%s is damaged: made again", path)
        return False
    if digest is not None:
        raise UsageError(f"{path}: changed since it was made", hint=_ANEW)
    return True
