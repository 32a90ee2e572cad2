"""E[HU | labels]: what the label map says about the HU of a voxel, by ridge regression.

The residual, HU - E[HU | labels], is what a generator has to invent. The regression has no network and is the same
for all methods. The features of a voxel are the one-hot label map, as it is and blurred in the slice, and the
position in the volume.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Array = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

BLURS = (1.0, 4.0, 16.0)
"""Standard deviations of the Gaussians that blur the one-hot label map, pixels."""

RIDGE = 1e-6
"""Penalty on the squared coefficients, as a share of the number of voxels; the constant has none."""

_POSITION = 4
"""Row, column and height, from -1 to 1 over the volume, and the constant."""


@dataclass(frozen=True, eq=False, slots=True)
class ExpectedHU:
    """A fitted regression of HU on labels.

    Args:
        of_labels: (1 + len(BLURS), num_classes) HU: for the one-hot map as it is, then blurred.
        of_position: (4,) HU: for row, column and height, and the constant.
    """

    of_labels: Array
    of_position: Array

    def residual(self, hu: NDArray[Any], mask: Labels) -> NDArray[np.float32]:
        """HU - E[HU | labels] inside the body; 0 outside.

        Blurring is linear: the coefficients of a width are painted into the label map, which is blurred once.

        Args:
            hu: (Z, H, W).
            mask: (Z, H, W) labels, 0 outside the body.

        Returns:
            (Z, H, W).
        """
        residual = np.zeros(mask.shape, np.float32)
        table = self.of_labels.astype(np.float32)
        row, column, height, constant = self.of_position.astype(np.float32)
        rows, columns = (_position(length) for length in mask.shape[1:])
        plane = row * rows[:, None] + column * columns + constant
        for z, up in enumerate(_position(len(mask))):
            labels = mask[z]
            expected = plane + height * up + table[0][labels]
            for of_blurred, sigma in zip(table[1:], BLURS, strict=True):
                expected += blurred(of_blurred[labels], sigma)
            residual[z] = np.where(labels != 0, hu[z] - expected, 0)
        return residual


class Regression:
    """Sums over training slices, from which the coefficients are solved.

    Args:
        num_classes: Classes in the label map, background included.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        size = (1 + len(BLURS)) * num_classes + _POSITION
        self._products: Array = np.zeros((size, size))
        self._sums: Array = np.zeros(size)
        self._voxels = 0

    def add(self, hu: NDArray[Any], mask: Labels, chosen: Iterable[int] | None = None) -> None:
        """Adds slices of a subject.

        Args:
            hu: (Z, H, W).
            mask: (Z, H, W) labels, 0 outside the body.
            chosen: Which slices; all if None.
        """
        heights = _position(len(mask))
        for z in range(len(mask)) if chosen is None else chosen:
            features, columns = self._features(mask[z], heights[z])
            values = hu[z][mask[z] != 0].astype(np.float32)
            self._products[np.ix_(columns, columns)] += features.T @ features
            self._sums[columns] += features.T @ values
            self._voxels += len(values)

    def solve(self) -> ExpectedHU:
        """The coefficients of least squared error and penalty.

        Raises:
            ValueError: No voxel of a body was added.
        """
        if not self._voxels:
            raise ValueError("no voxels of a body to fit E[HU | labels] to")
        penalty = np.full(len(self._sums), RIDGE * self._voxels)
        penalty[-1] = 0
        found: Array = np.linalg.solve(self._products + np.diag(penalty), self._sums).astype(np.float64)
        return ExpectedHU(found[:-_POSITION].reshape(-1, self._num_classes), found[-_POSITION:])

    def _features(self, labels: Labels, height: float) -> tuple[NDArray[np.float32], list[int]]:
        """(voxels of the body, features) that are not 0 in this slice, and which these are."""
        inside = labels != 0
        present = [int(label) for label in np.unique(labels) if label != 0]
        one_hot = (labels == np.array(present).reshape(-1, 1, 1)).astype(np.float32)
        maps = [one_hot, *(blurred(one_hot, sigma) for sigma in BLURS)]
        rows, columns = np.meshgrid(*(_position(length) for length in labels.shape), indexing="ij")
        position = np.stack([rows, columns, np.full_like(rows, height), np.ones_like(rows)])
        features = np.concatenate([one[:, inside] for one in (*maps, position)]).T
        places = [width * self._num_classes + label for width in range(len(maps)) for label in present]
        return features, [*places, *range(len(self._sums) - _POSITION, len(self._sums))]


def blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """(..., H, W) blurred in the slice by a Gaussian, the border repeated outside; a product of two matrices."""
    rows, columns = (_gaussian(length, sigma) for length in image.shape[-2:])
    return np.asarray(rows @ image @ columns.T, np.float32)


@functools.lru_cache
def _gaussian(length: int, sigma: float) -> NDArray[np.float32]:
    return np.asarray(gaussian_filter1d(np.eye(length), sigma, axis=0, mode="nearest"), np.float32)


def _position(length: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, length, dtype=np.float32) if length > 1 else np.zeros(1, np.float32)
