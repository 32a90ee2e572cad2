"""A CT series: which files of a folder are its slices, where they lie, and their HU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from ctsynth.data.dicom.headers import CT, check_lengths, headers
from ctsynth.data.formats import needs_extra
from ctsynth.data.itk_volume import LPS
from ctsynth.data.limits import check_memory, check_shape
from ctsynth.data.volume import SourceGrid, Volume
from ctsynth.errors import DataError, shortened

if TYPE_CHECKING:
    from pydicom import Dataset

_DEGREES = 0.1
"""Between the table and the normal of the slices; scanners round positions to 1e-2 mm."""

_UNEVEN = 0.01
"""Tolerance of the distance between slices."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """A CT series.

    Args:
        folder: Where it lies.
        files: Files of its slices, in the order of their positions.
        grid: (columns, rows, slices), RAS+ in mm.
    """

    folder: Path
    files: tuple[Path, ...]
    grid: SourceGrid


def read_series(folder: Path) -> Volume:
    """Reads the one CT series of a folder.

    Raises:
        DataError: There is none, or more than one; a localizer is among its slices; the gantry was tilted; slices
            are missing or unevenly spaced.
    """
    series = find_series(folder)
    try:
        import SimpleITK as sitk  # noqa: N813  its own documentation's name
    except ImportError as error:
        raise needs_extra(folder, "DICOM", error.name) from None
    check_memory(folder, 4 * int(np.prod(series.grid.shape)))
    voxels = np.empty(series.grid.shape, np.int16, order="F")
    for place, file in enumerate(series.files):
        check_lengths(file)
        reader = sitk.ImageFileReader()  # GDCM: all codecs, and rescaled to HU
        reader.SetFileName(str(file))
        try:
            reader.ReadImageInformation()
            if reader.GetSize() != (*series.grid.shape[:2], 1) or reader.GetNumberOfComponents() != 1:
                raise DataError(f"{file}: its pixels are {reader.GetSize()}, wanted one slice")
            plane = sitk.GetArrayFromImage(reader.Execute())[0]
        except RuntimeError as error:
            raise DataError(f"{file}: its pixels cannot be read: {str(error).splitlines()[-1]}") from None
        if voxels.dtype == np.int16 and not np.array_equal(plane, plane.astype(np.int16)):
            voxels = voxels.astype(np.float32)
        voxels[:, :, place] = plane.T
    return Volume.of_file(folder, voxels, series.grid)


def find_series(folder: Path, uid: str | None = None) -> Series:
    """The one CT series of a folder, or the one of that UID.

    Raises:
        DataError: As of ``read_series``.
    """
    there = headers(folder)
    slices = [(file, found) for file, found in there if found.get("SOPClassUID") == CT]
    if uid is not None:
        slices = [(file, found) for file, found in slices if found.get("SeriesInstanceUID") == uid]
    _refuse_localizers(folder, slices)
    of_series: dict[str, list[tuple[Path, Dataset]]] = {}
    for file, found in slices:
        of_series.setdefault(str(found.get("SeriesInstanceUID")), []).append((file, found))
    if not of_series:
        kinds = shortened(sorted({str(UID(found.get("SOPClassUID", "")).name) for _, found in there}))
        raise DataError(
            f"{folder}: no slices of a CT in it; it holds {kinds or 'no DICOM'}",
            hint="name the folder that holds a series' files; of multi-frame CT make a .nii.gz, as dcm2niix does",
        )
    if len(of_series) > 1:
        listed = (
            f"{str(some[0][1].get('SeriesDescription') or 'unnamed')!r} ({len(some)} images)"
            for some in of_series.values()
        )
        raise DataError(
            f"{folder}: holds {len(of_series)} CT series: {shortened(listed)}",
            hint="put each into its own folder",
        )
    (slices,) = of_series.values()
    return _placed(folder, slices)


def _refuse_localizers(folder: Path, slices: Sequence[tuple[Path, Dataset]]) -> None:
    found = [
        file.name for file, one in slices if "LOCALIZER" in [str(n).upper() for n in one.get("ImageType", [])]
    ]
    if found:
        raise DataError(f"{folder}: a localizer is among the slices: {shortened(found)}", hint="move it elsewhere")


def _placed(folder: Path, slices: Sequence[tuple[Path, Dataset]]) -> Series:
    file, first = slices[0]
    for other, found in slices:
        _check_alike(folder, (file, first), (other, found))
    across, down = np.array(first.ImageOrientationPatient, np.float64).reshape(2, 3)
    normal = np.cross(across, down)
    positions = np.array([found.ImagePositionPatient for _, found in slices], np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    step = _step(folder, positions, normal, first)
    affine = np.eye(4)
    row_spacing, column_spacing = map(float, first.PixelSpacing)
    affine[:3, :3] = np.stack([across * column_spacing, down * row_spacing, step], axis=1)
    affine[:3, 3] = positions[0]
    shape = check_shape(folder, (int(first.Columns), int(first.Rows), len(slices)))
    return Series(
        folder,
        tuple(slices[place][0] for place in order),
        SourceGrid(shape, LPS @ affine),
    )


def _check_alike(folder: Path, one: tuple[Path, Dataset], other: tuple[Path, Dataset]) -> None:
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
        if other[1].get(key) is None:
            raise DataError(f"{other[0]}: its header has no {key}", hint="is it a slice of the series?")
    for key in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        here, there = (np.array(found[1].get(key), np.float64) for found in (one, other))
        if here.shape != there.shape or np.abs(here - there).max() > 1e-4:
            raise DataError(
                f"{folder}: mixed slices: {key} is {one[1].get(key)} in {one[0].name} and {other[1].get(key)} in"
                f" {other[0].name}",
                hint="keep the axial slices of one reconstruction",
            )


def _step(folder: Path, positions: Vector, normal: Vector, first: Dataset) -> Vector:
    """From one slice to the next, mm."""
    if len(positions) == 1:
        thickness = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 0)
        if thickness <= 0:
            raise DataError(f"{folder}: one slice without a SliceThickness")
        return normal * thickness
    places = positions @ normal
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    if gaps.min() < 0.01:
        place = places[int(gaps.argmin())]
        raise DataError(
            f"{folder}: two slices lie at {place:.2f} mm: mixed acquisitions in one series",
            hint="keep the slices of one of them, by AcquisitionNumber or ContentTime",
        )
    if gaps.max() > 1.5 * usual:
        before = places[int(gaps.argmax())]
        raise DataError(
            f"{folder}: slices are missing between {before:.2f} and {before + gaps.max():.2f} mm along the table;"
            f" the others are {usual:.2f} mm apart",
            hint="export the series again",
        )
    if np.abs(gaps - gaps.mean()).max() > max(_UNEVEN * usual, 0.01):
        raise DataError(
            f"{folder}: slices lie unevenly, {gaps.min():.3f} to {gaps.max():.3f} mm apart",
            hint="resample the series to even spacing, and write it as .nii.gz",
        )
    step: Vector = (positions[-1] - positions[0]) / (len(positions) - 1)
    tilt = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1))))
    if tilt > _DEGREES:
        raise DataError(
            f"{folder}: the gantry was tilted by {tilt:.1f} degrees: slices are not at right angles to the table",
            hint="resample it, as dcm2niix does (its _Tilt files), and give the .nii.gz",
        )
    return step
