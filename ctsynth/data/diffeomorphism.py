"""Smooth invertible maps of space onto itself: exponentials of random stationary velocity fields.

The flow of a velocity field for unit time, phi = exp(v), has the inverse exp(-v) (Arsigny et al. 2006). Both are
computed on a lattice by scaling and squaring: exp(v / 2^K) is x + v(x) / 2^K, and K squarings follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates

Field = NDArray[np.float64]
"""(3, X, Y, Z): a vector in mm at each node of a lattice."""

SMOOTHNESS_MM = 40.0
"""Standard deviation of the Gaussian that smooths the velocity."""

RMS_MM = (6.0, 4.0)
"""Root mean square of the displacement in plane (its length) and along z, mm."""

SMALLEST_JACOBIAN = 0.3
"""Smallest share of its volume that a small region keeps."""

SPACING_MM = 5.0
"""Of the lattice."""

_SQUARINGS = 7
_WEAKER = 0.9


@dataclass(frozen=True, eq=False, slots=True)
class Deformation:
    """A displacement in mm on a lattice that begins at the first voxel's center.

    Args:
        velocity: v, whose flow it is.
        displacement: u, with phi(x) = x + u(x).
        spacing: Of the lattice, mm.
    """

    velocity: Field
    displacement: Field
    spacing: float = SPACING_MM

    @classmethod
    def of_velocity(cls, velocity: Field, spacing: float = SPACING_MM) -> Deformation:
        """exp(v)."""
        displacement = velocity / 2**_SQUARINGS
        for _ in range(_SQUARINGS):
            displacement = displacement + _at(displacement, displacement, spacing)
        return cls(velocity, displacement, spacing)

    @classmethod
    def random(cls, extent: tuple[float, float, float], rng: np.random.Generator, strength: float) -> Deformation:
        """A random one, made weaker until its Jacobian is ``SMALLEST_JACOBIAN`` or more.

        Args:
            extent: Of the volume along X, Y and Z, mm.
            rng: Draws the velocity.
            strength: Factor of ``RMS_MM``.
        """
        shape = _lattice(extent)
        margin = (
            round(SMOOTHNESS_MM / SPACING_MM) * 3
        )  # so that opposite sides of the volume do not know each other
        noise = rng.standard_normal((3, *(length + margin for length in shape)))
        for axis in (1, 2, 3):
            noise = gaussian_filter1d(noise, SMOOTHNESS_MM / SPACING_MM, axis, mode="wrap")
        velocity = noise[:, : shape[0], : shape[1], : shape[2]]
        squares = (velocity**2).mean(axis=(1, 2, 3))
        in_plane, along_z = RMS_MM
        velocity[:2] *= strength * in_plane / np.sqrt(squares[0] + squares[1])
        velocity[2] *= strength * along_z / np.sqrt(squares[2])
        deformation = cls.of_velocity(velocity)
        while deformation.smallest_jacobian() < SMALLEST_JACOBIAN:
            deformation = cls.of_velocity(_WEAKER * deformation.velocity)
        return deformation

    def at(self, points: Field) -> Field:
        """The displacement at points (3, ...) in mm from the first voxel's center; outside, that of the border."""
        nodes = points / self.spacing
        return np.stack([map_coordinates(part, nodes, order=1, mode="nearest") for part in self.displacement])

    def smallest_jacobian(self) -> float:
        """The least det(I + grad u) at the corners of the lattice's cells, within which u is trilinear."""
        smallest = np.inf
        rises = [np.diff(self.displacement, axis=axis) / self.spacing for axis in (1, 2, 3)]
        for corner in product((0, 1), repeat=3):
            columns = [_edges(rise, axis, corner) for axis, rise in enumerate(rises)]
            matrix = np.stack(columns, axis=-1).transpose(1, 2, 3, 0, 4) + np.eye(3)  # d u_row / d x_column
            smallest = min(smallest, float(np.linalg.det(matrix).min()))
        return smallest


def lattice_nodes(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> Field:
    """The nodes of the lattice of a volume, mm from its first voxel's center.

    Args:
        shape: Of the volume.
        spacing: Of its voxels, mm.
    """
    return SPACING_MM * np.indices(_lattice(extent_of(shape, spacing)), np.float64)


def extent_of(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    """From the center of a volume's first voxel to that of its last, mm."""
    x, y, z = (length * (count - 1) for length, count in zip(spacing, shape, strict=True))
    return x, y, z


def _lattice(extent: tuple[float, float, float]) -> list[int]:
    return [int(np.ceil(length / SPACING_MM)) + 2 for length in extent]


def _edges(rise: Field, axis: int, corner: tuple[int, ...]) -> Field:
    """The rise along an axis of each cell, on the edge that begins at this corner of the cell."""
    others = [
        slice(None) if other == axis else slice(1, None) if corner[other] else slice(None, -1)
        for other in range(3)
    ]
    return rise[(slice(None), *others)]


def _at(field: Field, displacement: Field, spacing: float) -> Field:
    """The field at x + u(x) for each node x; beyond the lattice its border's."""
    nodes = np.indices(field.shape[1:], np.float64) + displacement / spacing
    return np.stack([map_coordinates(part, nodes, order=1, mode="nearest") for part in field])
