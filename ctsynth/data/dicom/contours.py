"""Contours of radiotherapy (RTSTRUCT) as a label volume on the grid of their CT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from ctsynth.data.dicom.headers import header
from ctsynth.data.dicom.place import find_ct
from ctsynth.data.itk_volume import LPS, add_segment
from ctsynth.data.limits import check_memory
from ctsynth.data.volume import SourceGrid, Volume
from ctsynth.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_OFF_PLANE = 0.5
"""Voxels; a contour drawn further from the plane of its slice is of another series."""


def read_contours(path: Path, ct: Path | None) -> Volume:
    """Reads an RTSTRUCT. A voxel is inside where its center is; contours in one slice cut holes into each other.

    Raises:
        DataError: Its CT is not found, a contour is open or in no slice of it, or structures share voxels.
    """
    file = header(path)
    uid = _series(file)
    series = find_ct(path, uid, ct)
    if series is None:
        raise DataError(
            f"{path}: contours lie on their CT's grid, and its series ({uid!r}) is not in"
            f" {path.absolute().parent} or a folder beside it",
            hint="put the series there, or name its folder: `body_from` FOLDER",
        )
    check_memory(path, 3 * int(np.prod(series.grid.shape)))
    labels, names = np.zeros(series.grid.shape, np.uint16, order="F"), dict[int, str]()
    called = {int(roi.ROINumber): str(roi.ROIName) for roi in file.get("StructureSetROISequence", [])}
    for structure in file.get("ROIContourSequence", []):
        name = called.get(int(structure.ReferencedROINumber), "")
        contours = [one for one in structure.get("ContourSequence", []) if one.ContourGeometricType != "POINT"]
        if contours:
            add_segment(path, labels, names, _filled(path, name, contours, series.grid), name)
    if not names:
        raise DataError(f"{path}: no contours in it")
    return Volume.of_file(path, labels, series.grid, names)


def _series(file: Dataset) -> str:
    for frame in file.get("ReferencedFrameOfReferenceSequence", []):
        for study in frame.get("RTReferencedStudySequence", []):
            for series in study.get("RTReferencedSeriesSequence", []):
                return str(series.SeriesInstanceUID)
    return ""


def _filled(path: Path, name: str, contours: list[Dataset], grid: SourceGrid) -> NDArray[np.bool_]:
    """(columns, rows, slices), true inside an odd number of contours."""
    to_voxel = np.linalg.inv(LPS @ grid.affine)
    is_here = np.zeros(grid.shape, np.bool_, order="F")
    for contour in contours:
        if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            raise DataError(
                f"{path}: {name!r} has a contour of type {contour.ContourGeometricType!r}, wanted CLOSED_PLANAR"
            )
        points = np.array(contour.ContourData, np.float64).reshape(-1, 3)
        columns, rows, places = (to_voxel[:3, :3] @ points.T + to_voxel[:3, 3:]).round(6)
        place = int(np.rint(places.mean()))
        if not 0 <= place < grid.shape[2] or np.abs(places - place).max() > _OFF_PLANE:
            raise DataError(
                f"{path}: {name!r} has a contour that lies in no slice of its CT",
                hint="was it drawn on the CT beside it?",
            )
        is_here[:, :, place] ^= polygon2mask(grid.shape[:2], np.stack([columns, rows], axis=1))
    return is_here
