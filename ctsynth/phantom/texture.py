"""Texture of a phantom that no label determines, and patches of other density, with a known correlation along z.

It is added to the whole body. A component is a ``Field``, or its sign. The correlation of a field is known: the
autocorrelation of a cubic B-spline is the B-spline of degree 7. So the scores that look along z have a truth to be
held against, ``correlation``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline

from ctsynth.phantom.shapes import Array, Field, Points


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A random field that is added to the HU.

    Args:
        hu: Its standard deviation.
        knot: Distance of the field's knots in the slice, mm.
        along_z: Likewise along z.
        patches: Only the field's sign: regions of one density each.
    """

    hu: float
    knot: float
    along_z: float
    patches: bool = False

    def correlation(self, mm: ArrayLike) -> NDArray[np.float64]:
        """Correlation of two voxels so many mm apart along z.

        That of a field is the B-spline of degree 7, divided by its maximum; that of the signs of two normal
        variables with correlation rho is 2 / pi arcsin(rho).
        """
        spline = BSpline.basis_element(np.arange(-4, 5), extrapolate=False)
        rho = np.nan_to_num(spline(np.abs(mm) / self.along_z) / spline(0))  # NaN outside its 8 knots
        return np.asarray(2 / np.pi * np.arcsin(np.minimum(rho, 1)) if self.patches else rho)


COMPONENTS = (
    Component(hu=5, knot=15, along_z=12),
    Component(hu=6, knot=15, along_z=45),
    Component(hu=6, knot=40, along_z=30, patches=True),
)


def correlation(mm: ArrayLike) -> NDArray[np.float64]:
    """The law: correlation along z of all components together, at a distance in mm."""
    variances = [component.hu**2 for component in COMPONENTS]
    each = [component.correlation(mm) for component in COMPONENTS]
    return np.asarray(np.average(each, axis=0, weights=variances))


class Texture:
    """A subject's components.

    Args:
        seeds: Parent of their own seeds.
    """

    def __init__(self, seeds: np.random.SeedSequence) -> None:
        self._fields = [
            Field(np.random.Generator(np.random.Philox(seed)), component.knot, component.along_z)
            for component, seed in zip(COMPONENTS, seeds.spawn(len(COMPONENTS)), strict=True)
        ]

    def at(self, points: Points) -> Array:
        """Its sum on a grid, (K, X, Y) HU."""
        total = np.zeros(points.shape, np.float32)
        for component, field in zip(COMPONENTS, self._fields, strict=True):
            values = field.at(points)
            total += np.float32(component.hu) * (np.sign(values) if component.patches else values)
        return total
