"""Two subjects with one image: a leak where one is train and the other test, else a subject counted twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ctsynth.data.source_case import SourceCase
from ctsynth.errors import DataError
from ctsynth.files import sha256

_SAMPLE = 1 << 16
"""Bytes from the middle of a file that tell most images apart without reading them whole."""


def refuse_copies(cases: Iterable[SourceCase]) -> None:
    """Refuses a data set in which two image files hold the same bytes; empty and unreadable files do not count.

    Raises:
        DataError: Two subjects have one image.
    """
    alike: dict[bytes, list[SourceCase]] = {}
    for case in cases:
        with suppress(OSError):
            alike.setdefault(_sample(case.image), []).append(case)
    images = []
    for case in (case for sample, group in alike.items() if sample and len(group) > 1 for case in group):
        with suppress(OSError):
            images.append((case.name, case.split, str(case.image), sha256(case.image)))
    _refuse(images)


def refuse_twins(records: Iterable[Mapping[str, object]], source: Path) -> None:
    """Refuses a store in which two subjects have one image file, or slices that are equal to the last bit.

    Args:
        records: The subjects' records, as in the manifest.
        source: For the message.

    Raises:
        DataError: Two subjects have one image.
    """
    for key in ("image_sha256", "ct_sha256"):
        _refuse(
            [(str(one["name"]), str(one["split"]), str(source), str(one[key])) for one in records if key in one]
        )


def _sample(path: Path) -> bytes:
    """What images of other bytes hardly ever share; empty for an empty file."""
    if path.is_dir():  # a DICOM series
        files = sorted(file for file in path.iterdir() if file.is_file())
        return _sample(files[len(files) // 2]) if files else b""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _SAMPLE) // 2)
        content = file.read(_SAMPLE)
    return content and size.to_bytes(8, "big") + hashlib.sha256(content).digest()


def _refuse(images: Iterable[tuple[str, str, str, str]]) -> None:
    """Compares (name, split, place, hash) of images."""
    first: dict[str, tuple[str, str]] = {}
    for name, split, place, digest in images:
        other, its_split = first.setdefault(digest, (name, split))
        if other != name:
            raise DataError(
                f"{place}: {other} ({its_split}) and {name} ({split}) have the same image",
                hint="remove one of them, or exclude it with `split`, and run ctsynth preprocess again",
            )
