"""How far two label volumes agree: voxels in common, and distance of the surfaces."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, ...]

TOLERANCE_MM = 2.0
"""Tolerance of the normalized surface Dice."""


def overlaps(reference: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many voxels each id has in both volumes, in the reference, and in what was found.

    Args:
        reference: (X, Y, Z).
        found: (X, Y, Z).

    Returns:
        (3, 256).
    """
    sizes = np.zeros((3, 256), np.int64)
    for z in range(reference.shape[2]):  # by slices, for memory
        one, other = reference[:, :, z].ravel(), found[:, :, z].ravel()
        for kind, ids in zip(sizes, (one[one == other], one, other), strict=True):
            kind += np.bincount(ids, minlength=256)
    return sizes


class SurfaceDistances(NamedTuple):
    """Distance of each surface voxel of two masks to the other's surface, mm; infinite where the other is empty.

    A surface voxel has a neighbor outside by one of its six faces. Each counts once.
    """

    there: NDArray[np.float64]
    back: NDArray[np.float64]

    def hd95(self) -> float:
        """The 95th percentile of the Hausdorff distance: the larger of both directions (Maier-Hein et al. 2024).

        NaN if one of the masks is empty.
        """
        if not (len(self.there) and len(self.back)):
            return float("nan")
        return max(float(np.percentile(distances, 95)) for distances in self)

    def nsd(self, tolerance: float = TOLERANCE_MM) -> float:
        """The normalized surface Dice: the share of both surfaces within the tolerance of the other one, 0 to 1.

        Nikolov et al. 2021, with surface voxels instead of surface area, as in MONAI. 0 if one of the masks
        is empty, NaN if both are.

        Args:
            tolerance: Largest distance that is none, mm.
        """
        total = len(self.there) + len(self.back)
        return sum(np.count_nonzero(one <= tolerance) for one in self) / total if total else float("nan")


def surface_distances(
    one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> SurfaceDistances:
    """The distances between the surfaces of two masks.

    Args:
        one: (X, Y, Z).
        other: (X, Y, Z).
        spacing: Voxel spacing, mm.
    """
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    return SurfaceDistances(
        *(
            ndimage.distance_transform_edt(~target, spacing)[start]
            if target.any()
            else np.full(start.sum(), np.inf)
            for start, target in (surfaces, surfaces[::-1])
        )
    )


def boxes(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> dict[int, Box]:
    """The smallest box that holds each id in both volumes."""
    found: dict[int, Box] = {}
    for volume in (one, other):
        for number, box in enumerate(ndimage.find_objects(volume), start=1):
            if box:
                found[number] = _joined(box, found.get(number, box))
    return found


def _joined(one: Box, other: Box) -> Box:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
