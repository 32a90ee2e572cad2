"""Axial, coronal and sagittal planes of a volume on an isotropic grid, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPACING = 1.5
"""mm, of the isotropic grid."""

BODY = 0.05
"""Share of a plane that must be body."""

PLANES = {"xy": 0, "xz": 1, "yz": 2}
"""By name the axis, of Z, Y and X, along which they lie one behind the other."""


def resampled_planes(
    volume: NDArray[np.floating[Any]], body: NDArray[np.bool_], spacing: Sequence[float], axis: int
) -> Iterator[NDArray[np.float32]]:
    """The planes along an axis that show enough body, linearly interpolated at ``SPACING``.

    Only planes are resampled, not the volume, so that no more than one is held. Where the volume has this spacing
    they are its own.

    Args:
        volume: (Z, Y, X).
        body: (Z, Y, X).
        spacing: Along Z, Y and X, mm.
        axis: Along which the planes follow one another.

    Yields:
        2-D planes, of the other two axes in their order.
    """
    along = _weights(volume.shape[axis], spacing[axis])
    rows, columns = (_weights(volume.shape[other], spacing[other]) for other in range(3) if other != axis)
    for weights in along:
        (used,) = np.nonzero(weights)
        parts = [(weights[k], np.take(volume, k, axis=axis), np.take(body, k, axis=axis)) for k in used]
        inside = sum(weight * plane_body.astype(np.float32) for weight, _, plane_body in parts)
        if (rows @ inside @ columns.T).mean() >= BODY:
            plane = sum(weight * plane for weight, plane, _ in parts)
            yield np.asarray(rows @ plane @ columns.T, np.float32)


def _weights(length: int, spacing: float) -> NDArray[np.float32]:
    """(new length, length): what each voxel counts in each voxel of the new grid, which covers the same mm."""
    count = max(1, round(length * spacing / SPACING))
    if count == length:
        return np.eye(length, dtype=np.float32)
    place = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
    below = np.minimum(place.astype(int), max(length - 2, 0))
    weights = np.zeros((count, length), np.float32)
    weights[np.arange(count), below] = 1 - (place - below)
    if length > 1:
        weights[np.arange(count), below + 1] = place - below
    return weights
