"""NRRD, 3D Slicer's segmentations (.seg.nrrd) and MetaImage (.mha), read and written by SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.formats import needs_extra
from ctsynth.data.limits import check_memory, check_shape
from ctsynth.data.volume import Affine, SourceGrid, Volume
from ctsynth.errors import DataError
from ctsynth.labels import BACKGROUND

DESCRIPTION = "description"
"""Key of the header's entry that says what a file is."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From ITK's and DICOM's positions to RAS+ and back."""

_DIMENSIONS = re.compile(rb"^(?:NDims\s*=|dimension:)\s*(\w{1,8})", re.IGNORECASE | re.MULTILINE)
_MOST_DIMENSIONS = 5
"""Dimensions of a volume with colors and times; ITK ends the process on some numbers beyond."""

_LONG_FIELD = re.compile(rb"^(?!#|[^:\n]*:=)[^\n]{900}", re.MULTILINE)
"""A field of NRRD's that ITK may not read: its messages repeat the line in 1 kB, and end the process beyond."""

_ELSEWHERE = re.compile(rb"^(data ?file:|ElementDataFile\s*=\s*(?!LOCAL\s*$))", re.MULTILINE | re.IGNORECASE)
_MOST_HEADER = 1 << 20
_SHEAR = 1e-4  # cosine of the angle between two axes; nibabel's float32 affines are off by 1e-6


def load(path: Path, ct: Path | None = None) -> Volume:
    """Reads a volume; that of a .seg.nrrd with the names of its segments."""
    file = _header(path)
    size, parts = file.GetSize(), file.GetNumberOfComponents()
    entries = _entries(file)
    is_segments = any(key.startswith("Segment0_") for key in entries)
    check_shape(path, tuple(size))
    check_memory(path, 8 * parts * int(np.prod(size)))
    if parts > 1 and not is_segments:
        raise DataError(f"{path}: its voxels are {parts} numbers each, not one")
    if path.name.lower().endswith("nrrd") and "NRRD_space" not in entries:
        raise DataError(
            f"{path}: its header names no space: left and right are unknown",
            hint="write it again with a program that stores the patient's orientation",
        )
    sitk = _sitk(path)
    try:
        image = file.Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    voxels = np.moveaxis(sitk.GetArrayFromImage(image), (0, 1, 2), (2, 1, 0))
    names = None
    if is_segments:
        voxels, names = _merged(path, voxels, entries)
    if voxels.dtype.kind not in "iuf":
        raise DataError(f"{path}: its voxels are {voxels.dtype}, not one real number each")
    if voxels.dtype == np.float64:
        voxels = voxels.astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume.of_file(path, voxels, SourceGrid(voxels.shape, LPS @ affine), names)


def save(volume: Volume, path: Path, description: str, window: tuple[float, float] | None) -> None:
    """Writes a volume; the header's ``description`` says what it is, and there is no place for a window."""
    sitk = _sitk(path)
    voxels, source = volume.on_source_grid()
    directions, spacing, origin = frame(path, LPS @ source.affine_mm)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetDirection(directions.ravel().tolist())
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    image.SetMetaData(DESCRIPTION, description)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(_reason(error)) from None


def description(path: Path) -> str:
    """What the header says of the file."""
    try:
        file = _header(path)
    except DataError:
        return ""
    return _entries(file).get(DESCRIPTION, "")


def frame(path: Path, affine: Affine) -> tuple[Affine, NDArray[np.float64], NDArray[np.float64]]:
    """Directions (3, 3), spacing (3,) and origin (3,) of a grid whose axes are at right angles.

    Raises:
        DataError: They are not, which ITK and DICOM cannot write down.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > _SHEAR:
        raise DataError(
            f"{path}: its axes are not at right angles, as {path.suffix} wants them", hint="write a .nii.gz"
        )
    return directions, spacing, affine[:3, 3]


def _sitk(path: Path) -> Any:  # noqa: ANN401  the module
    try:
        import SimpleITK as sitk  # noqa: N813  its own documentation's name
    except ImportError as error:
        raise needs_extra(path, path.suffix, error.name) from None
    return sitk


def _header(path: Path) -> Any:  # noqa: ANN401  SimpleITK's reader, which has read the header
    if not path.is_file():
        raise DataError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}")
    sitk = _sitk(path)
    with path.open("rb") as file:
        header = re.split(rb"\n\r?\n|ElementDataFile = LOCAL", file.read(_MOST_HEADER))[0]
    if _ELSEWHERE.search(header):
        raise DataError(
            f"{path}: its voxels are in another file", hint="write it again as one file, or as .nii.gz"
        )
    if header.startswith(b"NRRD") and _LONG_FIELD.search(header):
        raise DataError(
            f"{path}: cannot read it: a line of its header is damaged", hint="copy or download it again"
        )
    if any(
        not dimensions.isdigit() or int(dimensions) > _MOST_DIMENSIONS
        for dimensions in _DIMENSIONS.findall(header)
    ):
        raise DataError(
            f"{path}: cannot read it: its number of dimensions is damaged", hint="copy or download it again"
        )
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    return reader


def _entries(file: Any) -> dict[str, str]:  # noqa: ANN401  as above
    """The entries of the header, those with names that are no text left out."""
    keys = (key for key in file.GetMetaDataKeys() if key.isascii())
    return {key: file.GetMetaData(key).encode(errors="replace").decode() for key in keys}


def _unreadable(path: Path, error: RuntimeError) -> DataError:
    return DataError(f"{path}: cannot read it: {_reason(error)}", hint="copy or download it again")


def _reason(error: RuntimeError) -> str:
    """The last line of ITK's message that says something; of a damaged file it says that there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines and "No such file" not in lines[-1] else "it is cut off or damaged"


def _merged(
    path: Path, voxels: NDArray[Any], entries: dict[str, str]
) -> tuple[NDArray[np.uint16], dict[int, str]]:
    """The layers of a segmentation as one label volume, and the names of its segments.

    Args:
        path: Where it is from, for messages.
        voxels: (X, Y, Z) or (X, Y, Z, layers).
        entries: Header entries: ``Segment0_Name``, ``Segment0_LabelValue`` and ``Segment0_Layer`` each.

    Raises:
        DataError: Two segments share voxels.
    """
    layers = voxels if voxels.ndim == 4 else voxels[..., None]
    merged = np.zeros(layers.shape[:3], np.uint16, order="F")
    names: dict[int, str] = {}
    numbers = [int(key[7:-5]) for key in entries if re.fullmatch(r"Segment\d{1,4}_Name", key)]
    for place in sorted(numbers):
        layer = _number(path, entries, f"Segment{place}_Layer", place if layers.shape[3] > 1 else 0)
        value = _number(path, entries, f"Segment{place}_LabelValue", 1)
        if layer >= layers.shape[3]:
            raise DataError(f"{path}: Segment{place}_Layer is {layer}, and there are {layers.shape[3]}")
        is_here = layers[..., layer] == value
        add_segment(path, merged, names, is_here, entries[f"Segment{place}_Name"])
    return merged, names


def add_segment(
    path: Path, merged: NDArray[np.uint16], names: dict[int, str], is_here: NDArray[np.bool_], name: str
) -> None:
    """Gives a segment's voxels the next number in a label volume.

    Raises:
        DataError: Another segment has some of them.
    """
    others = merged[is_here]
    if (others != BACKGROUND).any():
        other = names[int(others.max())]
        count = int(np.count_nonzero(others))
        raise DataError(
            f"{path}: segments {other!r} and {name!r} share {count:,} voxels: a voxel can be of one class only",
            hint="subtract one from the other, in 3D Slicer by Segment Editor, Logical operators",
        )
    names[len(names) + 1] = name
    merged[is_here] = len(names)


def _number(path: Path, entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not re.fullmatch(r"\d{1,5}", text):
        raise DataError(f"{path}: {key} is {text!r}, wanted a whole number")
    return int(text)
