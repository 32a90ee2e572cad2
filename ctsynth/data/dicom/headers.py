"""Headers of DICOM files, read by pydicom."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ctsynth.data.formats import is_dicom, needs_extra
from ctsynth.errors import CTSynthError, DataError

if TYPE_CHECKING:
    from pydicom import Dataset

CT = "1.2.840.10008.5.1.4.1.1.2"
SEGS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP classes."""

UNDEFINED = 0xFFFFFFFF
"""Length of an element that ends with a delimiter."""


@contextmanager
def wanted(path: Path) -> Iterator[None]:
    """Says which extra is missing, and of a file that pydicom or highdicom cannot use that it cannot be used.

    Raises:
        DataError: Instead of what they raise.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that break DICOM's rules and are readable all the same
            yield
    except ImportError as error:
        raise needs_extra(path, "DICOM", error.name) from None
    except (CTSynthError, MemoryError):
        raise
    except Exception as error:  # of any kind: what is in a file decides what their code meets
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"{path}: DICOM that cannot be used: {reason[:300]}") from error


def contents(path: Path) -> BytesIO:
    """A file's bytes: read from a file, an element that declares 4 GB would take them before its end is seen."""
    return BytesIO(path.read_bytes())


def header(path: Path) -> Dataset:
    """A file's elements without its pixels.

    Raises:
        DataError: It is no DICOM file.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(contents(path), stop_before_pixels=True)
    except InvalidDicomError:
        raise DataError(f"{path}: not a DICOM file") from None


def check_lengths(path: Path) -> None:
    """Refuses a file that declares more than it holds: GDCM would take that much memory, up to 4 GB an element.

    Raises:
        DataError: An element does.
    """
    from pydicom import dcmread

    whole = dcmread(contents(path))
    for part in (whole.file_meta, whole):
        _check_elements(path, part)


def _check_elements(path: Path, part: Dataset) -> None:
    from pydicom.dataelem import RawDataElement

    for tag in list(part.keys()):
        raw = part.get_item(tag)
        if isinstance(raw, RawDataElement) and len(raw.value or b"") < raw.length < UNDEFINED:
            raise DataError(
                f"{path}: element {tag} declares {raw.length} bytes, and {len(raw.value or b'')} are there",
                hint="is the file cut off?",
            )
        if part[tag].VR == "SQ":
            for item in part[tag].value:
                _check_elements(path, item)


def headers(folder: Path) -> list[tuple[Path, Dataset]]:
    """The DICOM files of a folder, by name; others are left out."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    return [(file, header(file)) for file in files if is_dicom(file) and file.name != "DICOMDIR"]
