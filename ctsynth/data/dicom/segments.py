"""A DICOM segmentation (SEG) as a label volume, read by highdicom."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.dicom.headers import contents
from ctsynth.data.dicom.place import find_ct
from ctsynth.data.itk_volume import LPS, add_segment
from ctsynth.data.limits import check_memory, check_shape
from ctsynth.data.volume import SourceGrid, Volume
from ctsynth.errors import DataError

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

log = logging.getLogger(__name__)

_SAME = 1e-2  # voxels


def read_segments(path: Path, ct: Path | None) -> Volume:
    """Reads a SEG: on the grid of its CT if that is found, for its own ends with the last labeled slice.

    Raises:
        DataError: It is fractional, segments share voxels, or it does not lie on the CT's grid.
    """
    import highdicom

    file = highdicom.seg.segread(contents(path))
    if file.segmentation_type.value == "FRACTIONAL":
        raise DataError(f"{path}: a fractional segmentation", hint="save it as a binary one, or a label map")
    geometry = file.get_volume_geometry(allow_missing_positions=True)
    if geometry is None:
        raise DataError(f"{path}: its frames do not form a volume of parallel, evenly spaced slices")
    own = SourceGrid(
        check_shape(path, geometry.spatial_shape[::-1]), LPS @ np.asarray(geometry.affine)[:, [2, 1, 0, 3]]
    )
    references = file.get("ReferencedSeriesSequence", [])
    series = find_ct(path, str(references[0].SeriesInstanceUID) if references else "", ct)
    grid = series.grid if series else own
    if series is None:
        log.warning(
            "%s: its CT is not beside it: slices above and below its labels are left out (`body_from` CT)", path
        )
    check_memory(path, 3 * int(np.prod(grid.shape)))
    labels = _combined(path, file)
    names = {number: _name(file, number) for number in file.segment_numbers}
    return Volume.of_file(path, _moved(path, labels, own, grid) if series else labels, grid, names)


def _combined(path: Path, file: Segmentation) -> NDArray[np.uint16]:
    """(columns, rows, slices), the number of the segment that a voxel belongs to."""
    try:
        found = file.get_volume(combine_segments=True, dtype=np.uint16)
    except RuntimeError:  # it says that segments overlap, and not which
        _refuse_overlap(path)
        raise
    labels: NDArray[np.uint16] = np.asarray(found.array).transpose(2, 1, 0)
    return labels


def _refuse_overlap(path: Path) -> None:
    import highdicom

    file = highdicom.seg.segread(contents(path))  # read again: the earlier object keeps its tables locked
    merged: NDArray[np.uint16] | None = None
    names: dict[int, str] = {}
    for number in file.segment_numbers:
        is_here = np.asarray(file.get_volume(segment_numbers=[number], combine_segments=True).array) > 0
        merged = np.zeros(is_here.shape, np.uint16) if merged is None else merged
        add_segment(path, merged, names, is_here, _name(file, number))


def _name(file: Segmentation, number: int) -> str:
    return str(file.get_segment_description(number).segment_label)


def _moved(path: Path, labels: NDArray[np.uint16], own: SourceGrid, grid: SourceGrid) -> NDArray[np.uint16]:
    """Labels of one grid on another whose voxels are the same ones, in whatever order, and maybe more.

    Raises:
        DataError: The voxels of the grids lie elsewhere.
    """
    to_grid = np.linalg.solve(grid.affine, own.affine)
    whole = np.rint(to_grid)
    reach = np.append(own.shape, 1)
    if (np.abs(to_grid - whole)[:3] * reach).max() > _SAME or abs(np.linalg.det(whole[:3, :3])) != 1:
        raise DataError(f"{path}: its voxels are not those of its CT", hint="resample it onto the CT's grid")
    labeled = np.nonzero(labels)
    places = whole[:3, :3].astype(int) @ np.stack(labeled) + whole[:3, 3:].astype(int)
    if places.size and (places.min() < 0 or (places.max(axis=1) >= grid.shape).any()):
        raise DataError(f"{path}: labels lie outside its CT", hint="is it of another series?")
    moved = np.zeros(grid.shape, np.uint16, order="F")
    moved[tuple(places)] = labels[labeled]
    return moved
