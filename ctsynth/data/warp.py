"""Label volumes and images read through a deformation: voxel x of the result is the source at phi(x)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from ctsynth.data.diffeomorphism import Deformation, Field
from ctsynth.data.plausible import Labels

Spacing = tuple[float, float, float]
"""Of the voxels along X, Y and Z, mm."""


def warped(labels: Labels, spacing: Spacing, deformation: Deformation) -> tuple[Labels, dict[str, float]]:
    """A label volume whose voxel x has the label nearest to phi(x), and how far phi moves what is labeled, in mm.

    Beyond the volume its border's labels go on.
    """
    made = np.empty_like(labels)
    last = np.array(labels.shape)[:, None, None] - 1
    squares, count, farthest = 0.0, 0, 0.0
    for z in range(labels.shape[2]):
        moved, places = _source(labels.shape, spacing, deformation, z)
        x, y, below = np.clip(np.rint(places).astype(np.intp), 0, last)
        made[:, :, z] = labels[x, y, below]
        square = (moved**2).sum(0)[made[:, :, z] != 0]
        squares, count = squares + float(square.sum()), count + square.size
        farthest = max(farthest, float(square.max(initial=0)))
    return made, {"rms_mm": round((squares / max(1, count)) ** 0.5, 3), "max_mm": round(farthest**0.5, 3)}


def warped_image(image: NDArray[Any], spacing: Spacing, deformation: Deformation) -> NDArray[Any]:
    """An image whose voxel x is interpolated linearly at phi(x).

    Beyond the volume its border's values go on, as the labels' do: not air, which would cut through the patient.

    Args:
        image: (X, Y, Z) RAS+, such as HU; integers are rounded to integers again.
        spacing: Of its voxels.
        deformation: phi.
    """
    made = np.empty_like(image)
    source = image.astype(np.float32)
    for z in range(image.shape[2]):
        _, places = _source(image.shape, spacing, deformation, z)
        values = map_coordinates(source, places, order=1, mode="nearest")
        made[:, :, z] = np.rint(values) if image.dtype.kind in "iu" else values
    return made


def _source(shape: tuple[int, ...], spacing: Spacing, deformation: Deformation, z: int) -> tuple[Field, Field]:
    """For the voxels of slice z, (3, X, Y): how far phi moves them, mm, and where phi(x) is, in voxels."""
    length = np.array(spacing)[:, None, None]
    points = np.stack(np.broadcast_arrays(*np.ogrid[: shape[0], : shape[1]], z)) * length
    moved = deformation.at(points)
    return moved, (points + moved) / length
