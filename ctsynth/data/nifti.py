"""Reads a NIfTI file as far as its header says, and refuses a header that cannot be true before it is believed."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from ctsynth.data.formats import is_packed
from ctsynth.data.limits import check_memory, check_shape
from ctsynth.errors import DataError

_NIFTI2 = 540  # bytes of its header, by which it is known
_MOST_HEADER = 1 << 24  # bytes, with extensions
_PIECE = 1 << 20
_AGAIN = "copy or download it again"
_ERRORS = (nib.spatialimages.HeaderDataError, ValueError, KeyError, OverflowError)
_SILENT = logging.getLogger(f"{__name__}.header")
_SILENT.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, eq=False, slots=True)
class File:
    """What a NIfTI file holds.

    Args:
        header: A NIfTI-1 or NIfTI-2 header.
        extensions: Code and content of each of the header's.
        voxels: In the file's own axes and dtype.
    """

    header: nib.Nifti1Header
    extensions: list[tuple[int, bytes]]
    voxels: NDArray[Any]

    @property
    def label_names(self) -> dict[int, str] | None:
        """The names of the labels, where TotalSegmentator left them; None where nobody did.

        They lie in a header extension, XML of the Connectome Workbench's form:
        ``<CaretExtension>...<LabelTable><Label Key="5" ...><![CDATA[liver]]></Label>``.
        """
        for _, content in self.extensions:
            text = content.decode("utf-8", "replace").strip("\0 \n")
            if (
                "<LabelTable" not in text or "<!DOCTYPE" in text
            ):  # which is where entities that blow up are declared
                continue
            try:
                labels = ElementTree.fromstring(text).iter("Label")
                return {int(label.attrib["Key"]): (label.text or "").strip() for label in labels}
            except (ElementTree.ParseError, KeyError, ValueError):
                continue
        return None


def read(path: Path) -> File:
    """Reads a .nii or .nii.gz.

    A gzip file is unpacked as far as the header declares, and up to 1 MiB more to its end, for the checksum.

    Raises:
        DataError: There is no such file, or it is no whole NIfTI-1 or NIfTI-2 file of one 3-D volume.
        RunError: It declares more voxels than this machine has memory for.
    """
    with _unpacked(path) as file:
        content = bytearray(file.read(_NIFTI2))
        header = _header(path, content)
        shape, dtype, start = _form(path, header)
        length = start + math.prod(shape) * dtype.itemsize
        if not is_packed(path):
            _check_length(path, path.stat().st_size, length)
        check_memory(path, length)
        while len(content) < length and (piece := file.read(min(_PIECE, length - len(content)))):
            content += piece
        _check_length(path, len(content), length)
        if is_packed(path) and len(file.read(_PIECE)) == _PIECE:
            raise DataError(f"{path}: it unpacks to more than the {length:,} bytes that its header declares")
    voxels: NDArray[Any] = np.ndarray(shape, dtype, memoryview(content), start, order="F")
    return File(header, _extensions(path, header, bytes(content[:start])), voxels)


def label_table(names: Mapping[int, str]) -> bytes:
    """The header extension that ``File.label_names`` reads names from; XML has no control characters."""
    root = ElementTree.Element("CaretExtension")
    table = ElementTree.SubElement(ElementTree.SubElement(root, "VolumeInformation", Index="0"), "LabelTable")
    for value, name in names.items():
        ElementTree.SubElement(table, "Label", Key=str(value)).text = "".join(filter(str.isprintable, name))
    return bytes(ElementTree.tostring(root, encoding="UTF-8"))


def description(path: Path) -> str:
    """What a file's header says of it; empty if it cannot be read. No more of the file is read than the header."""
    try:
        with _unpacked(path) as file:
            text: bytes = _header(path, file.read(_NIFTI2))["descrip"].item()
    except DataError:
        return ""
    return text.decode("ascii", "replace")


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes] | igzip.IGzipFile]:
    """An open file, or what is in it where it is a gzip file, of any number of members."""
    try:
        with path.open("rb") as file:
            magic = file.peek(2)[:2]
            if not magic:
                raise DataError(f"{path}: the file is empty", hint=_AGAIN)
            if not is_packed(path):
                yield file
            elif magic == b"\x1f\x8b":
                with igzip.IGzipFile(fileobj=file) as packed:
                    yield packed
            else:
                raise DataError(f"{path}: not a gzip file", hint="is it a plain .nii under another name?")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (EOFError, igzip.BadGzipFile, IsalError) as error:  # type: ignore[misc]  # its stub errs
        raise DataError(f"{path}: the gzip file is cut off or damaged: {error}", hint=_AGAIN) from None
    except OSError as error:
        raise DataError(f"{path}: cannot read it: {error.strerror or error}") from error


def _header(path: Path, content: bytes | bytearray) -> nib.Nifti1Header:
    """A header alone; what nibabel says of it goes into the error and nowhere else."""
    is_second = any(int.from_bytes(content[:4], order) == _NIFTI2 for order in ("little", "big"))
    kind = nib.Nifti2Header if is_second else nib.Nifti1Header
    try:
        header = kind(bytes(content[: kind.sizeof_hdr]), check=False)
        header.check_fix(_SILENT)
    except (*_ERRORS, nib.wrapstruct.WrapStructError) as error:
        raise DataError(f"{path}: not a NIfTI file: {error}") from None
    if not header["magic"].item().startswith(b"n+"):
        raise DataError(f"{path}: not a NIfTI file with header and voxels in one")
    return header


def _form(path: Path, header: nib.Nifti1Header) -> tuple[tuple[int, int, int], np.dtype[Any], int]:
    """Shape and dtype of the voxels, and the byte at which they begin."""
    try:
        shape = tuple(int(length) for length in header.get_data_shape())
        dtype = header.get_data_dtype()
    except _ERRORS as error:
        raise DataError(f"{path}: not a NIfTI file: {error}") from None
    sizes = check_shape(path, shape)
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: its voxels are {dtype}, not one real number each")
    start = float(header["vox_offset"])
    if not (header.sizeof_hdr <= start <= _MOST_HEADER and start.is_integer()):
        raise DataError(
            f"{path}: its header says that the voxels begin at byte {start:g}, wanted {header.sizeof_hdr + 4} or"
            f" more, at most {_MOST_HEADER:,}"
        )
    return sizes, dtype, int(start)


def _check_length(path: Path, found: int, declared: int) -> None:
    if found < declared:
        raise DataError(f"{path}: its last {declared - found:,} bytes are missing", hint=_AGAIN)


def _extensions(path: Path, header: nib.Nifti1Header, content: bytes) -> list[tuple[int, bytes]]:
    """The extensions between header and voxels.

    Raises:
        DataError: One is shorter than its own header or reaches into the voxels.
    """
    place = header.sizeof_hdr + 4
    if content[place - 4 : place - 3] in (b"", b"\0"):
        return []
    found = []
    while place + 16 <= len(content):
        size, code = struct.unpack_from(f"{header.endianness}ii", content, place)
        if not 8 <= size <= len(content) - place:
            raise DataError(f"{path}: a header extension of {size:,} bytes does not fit before the voxels")
        found.append((code, content[place + 8 : place + size]))
        place += size
    return found
