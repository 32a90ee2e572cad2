"""What the phantom is built of: points in mm, smooth random fields, and shapes given by a value at every point.

A shape or a field is a function of the position and knows nothing of voxels: so the same anatomy comes out on any
grid, and an organ is continuous from slice to slice because nothing is drawn slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""float32, unless said otherwise."""

Mask = NDArray[np.bool_]

FIELD_OF_VIEW = 384.0
"""Side of the square slices, mm."""

BOTTOM, TOP = -368.0, -8.0
"""Ends of the volume, mm; 0 is the dome of the diaphragm. A short torso, so that 24 slices meet every organ."""

OUTSIDE = np.float32(9.0)
"""The value of a shape far away from it."""

_MARGIN = 20.0
"""How far around a shape's own bounds points are looked at, mm; no warp moves a point further."""


@dataclass(frozen=True, eq=False, slots=True)
class Points:
    """Positions of the voxels of some neighboring slices, mm.

    Shapes:
        x, a, z: (1, X, 1), (1, 1, Y) and (K, 1, 1), toward the patient's right, anterior and superior; all three
            (K, X, Y) where the points were warped.
        axes: The unwarped x (X,), a (Y,) and z (K,), by which shapes find the part of the grid that they need.
    """

    x: Array
    a: Array
    z: Array
    axes: tuple[Array, Array, Array]

    @classmethod
    def grid(cls, x: Array, a: Array, z: Array) -> Points:
        """The points of a rectangular grid."""
        return cls(x[None, :, None], a[None, None, :], z[:, None, None], (x, a, z))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, X, Y)."""
        x, a, z = self.axes
        return len(z), len(x), len(a)

    def moved(self, x: Array, a: Array, z: Array) -> Points:
        """The same grid seen through a warp: each point moved by (x, a, z), mm, (K, X, Y) each."""
        return Points(self.x + x, self.a + a, self.z + z, self.axes)

    def crop(
        self, low: Iterable[float], high: Iterable[float]
    ) -> tuple[tuple[slice, slice, slice], Points] | None:
        """The part of the grid within a box (x, a, z) and a margin, and its index; None where there is none."""
        ranges = []
        for axis, lowest, highest in zip(self.axes, low, high, strict=True):
            first, last = np.searchsorted(axis, (lowest - _MARGIN, highest + _MARGIN))
            if first == last:
                return None
            ranges.append(slice(int(first), int(last)))
        x, a, z = ranges
        part = [
            values[tuple(s if n > 1 else slice(None) for s, n in zip((z, x, a), values.shape, strict=True))]
            for values in (self.x, self.a, self.z)
        ]
        axes = (self.axes[0][x], self.axes[1][a], self.axes[2][z])
        return (z, x, a), Points(part[0], part[1], part[2], axes)


class Field:
    """A smooth random function of the position with mean 0 and variance 1: cubic B-splines with random weights.

    Args:
        rng: For the weights, drawn once and for the whole field of view.
        knot: Distance of the spline's knots in the slice, mm; it changes sign about every 2.5 knots.
        along_z: Their distance along z, mm; that in the slice if None.
    """

    def __init__(self, rng: np.random.Generator, knot: float, along_z: float | None = None) -> None:
        half = FIELD_OF_VIEW / 2 + 2 * _MARGIN
        self._knots = (along_z or knot, knot, knot)
        self._origin = (BOTTOM - 2 * _MARGIN, -half, -half)
        extent = (TOP - BOTTOM + 4 * _MARGIN, 2 * half, 2 * half)
        shape = [int(length / distance) + 5 for length, distance in zip(extent, self._knots, strict=True)]
        power = 151 / 315  # the mean of a cubic B-spline's squared weights, on each axis
        self._weights = rng.standard_normal(shape, np.float32) / np.float32(power**1.5)

    def at(self, points: Points) -> Array:
        """Its values on the points' unwarped grid, (K, X, Y)."""
        x, a, z = points.axes
        values = self._weights
        for axis, origin, knot in zip((z, x, a), self._origin, self._knots, strict=True):
            values = np.moveaxis(_along(axis, origin, knot, values), 0, 2)  # the next axis comes to the front
        return values


def _along(positions: Array, origin: float, knot: float, weights: Array) -> Array:
    """A spline along the first axis of its weights, at positions in mm."""
    index = (positions - origin) / np.float32(knot)
    first = np.floor(index).astype(np.intp)
    t = (index - first).astype(np.float32)[:, None, None]
    weights = np.ascontiguousarray(weights)
    total = weights[first] * ((1 - t) ** 3 / 6)
    total += weights[first + 1] * ((3 * t - 6) * t * t + 4) * np.float32(1 / 6)
    total += weights[first + 2] * ((((3 - 3 * t) * t + 3) * t + 1) / 6)
    total += weights[first + 3] * (t**3 / 6)
    return np.asarray(total)


class Shape(Protocol):
    """A solid: negative inside, 0 on the surface, rising by about 1 for every radius outward."""

    def value(self, points: Points) -> Array:
        """Its value at each point, (K, X, Y); ``OUTSIDE`` where the point is far."""
        ...


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipsoid.

    Args:
        center: (x, a, z), mm.
        radii: Along x, a and z, mm.
        lean: How far its axis runs in x and in a for every mm upward.
    """

    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    lean: tuple[float, float] = (0.0, 0.0)

    def value(self, points: Points) -> Array:
        """See ``Shape``."""
        lean = np.abs([*self.lean, 0.0]) * self.radii[2]
        reach = np.array(self.radii) + lean
        values = np.full(points.shape, OUTSIDE)
        if (found := points.crop(np.array(self.center) - reach, np.array(self.center) + reach)) is None:
            return values
        box, near = found
        x, a, z = self.center
        up = near.z - z
        squares = ((near.x - x - self.lean[0] * up) / self.radii[0]) ** 2
        squares = squares + ((near.a - a - self.lean[1] * up) / self.radii[1]) ** 2
        squares = squares + (up / self.radii[2]) ** 2
        values[box] = np.sqrt(squares) - 1
        return values


@dataclass(frozen=True, eq=False, slots=True)
class Tube:
    """A tube along a smooth curve.

    Args:
        knots: Points (x, a, z) that the curve goes through, mm.
        radii: At each knot, mm; one number is all of them.
        pieces: Straight pieces from knot to knot; 1 is a polygon.
    """

    knots: Sequence[tuple[float, float, float]]
    radii: Sequence[float] | float
    pieces: int = 3

    def value(self, points: Points) -> Array:
        """See ``Shape``; the number of radii from the axis, less 1."""
        values = np.full(points.shape, OUTSIDE)
        path = self._path()
        for (*start, r0), (*end, r1) in pairwise(path):
            low, high = np.minimum(start, end) - max(r0, r1), np.maximum(start, end) + max(r0, r1)
            if (found := points.crop(low, high)) is None:
                continue
            box, near = found
            along = [stop - begin for begin, stop in zip(start, end, strict=True)]
            dx, da, dz = near.x - start[0], near.a - start[1], near.z - start[2]
            t = np.clip(
                (dx * along[0] + da * along[1] + dz * along[2]) / max(sum(step * step for step in along), 1e-6),
                0,
                1,
            )
            square = (dx - t * along[0]) ** 2 + (da - t * along[1]) ** 2 + (dz - t * along[2]) ** 2
            np.minimum(values[box], np.sqrt(square) / (r0 + t * (r1 - r0)) - 1, out=values[box])
        return values

    def _path(self) -> list[list[float]]:
        """x, a, z and radius along a Catmull-Rom spline through the knots."""
        radii = np.broadcast_to(np.asarray(self.radii, np.float64), len(self.knots))
        p = np.column_stack([np.asarray(self.knots, np.float64), radii])
        if self.pieces == 1 or len(p) < 3:
            return p.tolist()
        padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        path = []
        for before, start, end, after in zip(padded, p, p[1:], padded[3:], strict=False):
            for t in np.arange(self.pieces) / self.pieces:
                bend = (end - before) * t + (2 * before - 5 * start + 4 * end - after) * t**2
                path.append(start + (bend + (3 * start - before - 3 * end + after) * t**3) / 2)
        return np.maximum([*path, p[-1]], [-np.inf, -np.inf, -np.inf, radii.min()]).tolist()


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """Something upright: an ellipse in each axial plane whose center and radii follow knots in z.

    Args:
        knots: Rows (z, x, a, radius along x, radius along a), mm, by rising z; it ends at the first and the last.
    """

    knots: Sequence[tuple[float, float, float, float, float]]

    def value(self, points: Points) -> Array:
        """See ``Shape``."""
        rows = np.asarray(self.knots, np.float64)
        reach = rows[:, 3:].max(axis=0)
        low = [*(rows[:, 1:3].min(axis=0) - reach), rows[0, 0]]
        high = [*(rows[:, 1:3].max(axis=0) + reach), rows[-1, 0]]
        values = np.full(points.shape, OUTSIDE)
        if (found := points.crop(low, high)) is None:
            return values
        box, near = found
        x, a, rx, ra = (follow(near.z, rows[:, 0].tolist(), rows[:, n].tolist()) for n in (1, 2, 3, 4))
        bottom, top = float(rows[0, 0]), float(rows[-1, 0])
        ends = np.abs(near.z - (bottom + top) / 2) - (top - bottom) / 2
        values[box] = np.maximum(np.sqrt(((near.x - x) / rx) ** 2 + ((near.a - a) / ra) ** 2) - 1, ends / 10)
        return values


def ramp(values: Array, low: float, high: float) -> Array:
    """Rises smoothly from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def bump(values: Array, width: float) -> Array:
    """A bell of height 1 around 0."""
    return np.asarray(np.exp(-((values / width) ** 2)), np.float32)


def follow(heights: Array | float, knots: Sequence[float], values: Sequence[float]) -> Array:
    """What lies between values given at some heights, straight from one to the next."""
    return np.asarray(np.interp(heights, knots, values), np.float32)
