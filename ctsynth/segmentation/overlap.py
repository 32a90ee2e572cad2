"""How far two label volumes agree: voxels in common, and distance of the surfaces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, ...]


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


def hd95(one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: tuple[float, float, float]) -> float:
    """The 95th percentile of the Hausdorff distance, mm: the larger of both directions (Maier-Hein et al. 2024).

    Each surface voxel, which has a neighbor outside by one of its six faces, counts once.

    Args:
        one: (X, Y, Z).
        other: (X, Y, Z).
        spacing: Voxel spacing, mm.

    Returns:
        NaN if one of them is empty.
    """
    if not (one.any() and other.any()):
        return float("nan")
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    return max(
        float(np.percentile(ndimage.distance_transform_edt(~target, spacing)[start], 95))
        for start, target in (surfaces, surfaces[::-1])
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
