"""A CT and its label volume, read together and held to what both must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.relabel import Given, Labels, read_labels
from ctsynth.data.source_case import SourceCase
from ctsynth.data.volume import PLAUSIBLE_AIR, SAME_GRID, Geometry, Volume
from ctsynth.errors import DataError
from ctsynth.labels import LabelSet

_INT16 = np.iinfo(np.int16)


def read_pair(
    case: SourceCase, labels: LabelSet, dataset: Given | None = None
) -> tuple[NDArray[np.int16], Labels, Geometry]:
    """Reads a case's two volumes, both turned to RAS+.

    Args:
        case: Whose.
        labels: The set that the label volume is brought to.
        dataset: What a dataset.json says of the numbers in it.

    Returns:
        (X, Y, Z) HU, the labels, and the geometry of both.

    Raises:
        DataError: A file cannot be read, the two lie on different grids, the image is not in HU, or a label is
            unknown.
    """
    image, label = Volume.load(case.image), Volume.load(case.label, case.image)
    _check_grids(case, image.geometry, label.geometry)
    return in_hu(case.image, image.voxels), read_labels(case.label, label, labels, dataset=dataset), image.geometry


def _check_grids(case: SourceCase, image: Geometry, label: Geometry) -> None:
    hint = "resample the label volume onto the image's grid, nearest neighbor"
    if image.shape != label.shape:
        raise DataError(
            f"{case.label}: its shape is {label.shape}, that of {case.image} is {image.shape}", hint=hint
        )
    if not label.same_as(image):
        difference = np.abs(image.affine - label.affine).max()
        raise DataError(
            f"{case.label}: its affine differs from that of {case.image} by up to {difference:.4g} mm,"
            f" {SAME_GRID:g} is allowed",
            hint=hint,
        )


def check_hu(path: Path, voxels: NDArray[Any]) -> None:
    """Refuses voxels that hold NaN or infinity, or that cannot be HU, for none is air.

    Raises:
        DataError: They are such.
    """
    if voxels.dtype.kind == "f":
        broken = sum(int(np.count_nonzero(~np.isfinite(voxels[:, :, z]))) for z in range(voxels.shape[2]))
        if broken:
            raise DataError(
                f"{path}: {broken} voxels are NaN or infinite", hint="write it again from the scanner's data"
            )
    low, high = voxels.min(), voxels.max()
    if not low < PLAUSIBLE_AIR:
        raise DataError(
            f"{path}: its values go from {low:g} to {high:g}; in HU some would be below {PLAUSIBLE_AIR}",
            hint="give the CT in Hounsfield units, before any window or normalization",
        )


def in_hu(path: Path, voxels: NDArray[Any]) -> NDArray[np.int16]:
    """A CT's voxels as whole HU.

    Raises:
        DataError: As ``check_hu``.
    """
    check_hu(path, voxels)
    if voxels.dtype == np.int16:
        return voxels
    hu = np.empty(voxels.shape, np.int16, order="F")
    for z in range(voxels.shape[2]):
        hu[:, :, z] = np.rint(np.clip(voxels[:, :, z], _INT16.min, _INT16.max))
    return hu
