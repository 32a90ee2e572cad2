"""The HU of organs: histograms, how far apart two are, and how much subjects differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def histograms(
    hu: NDArray[Any], mask: NDArray[np.integer[Any]], *, low: float, bins: int, num_classes: int
) -> NDArray[np.int64]:
    """How many voxels of each class have each whole HU.

    Args:
        hu: (Z, H, W).
        mask: (Z, H, W) labels.
        low: HU of the first bin.
        bins: Their number, 1 HU each; what lies beyond an end is counted there.
        num_classes: Classes of the labels.

    Returns:
        (num_classes, bins).
    """
    counts = np.zeros(num_classes * bins, np.int64)
    for values, labels in zip(hu, mask, strict=True):
        place = np.clip(np.rint(values - low), 0, bins - 1).astype(np.int64) + bins * labels.astype(np.int64)
        counts += np.bincount(place.ravel(), minlength=len(counts))
    return counts.reshape(num_classes, bins)


def wasserstein(one: NDArray[Any], other: NDArray[Any]) -> Array:
    """Wasserstein-1 distance of histograms with the same bins of width 1: the area between their distributions.

    Args:
        one: (..., bins) counts.
        other: (..., bins) counts.

    Returns:
        (...), in bins; NaN where one is empty.
    """
    shares = []
    for counts in (one, other):
        total = counts.sum(axis=-1, keepdims=True).astype(np.float64)
        empty = np.full(counts.shape, np.nan)
        shares.append(np.divide(np.cumsum(counts, axis=-1), total, out=empty, where=total > 0))
    distance: Array = np.abs(shares[0] - shares[1]).sum(axis=-1)
    return distance


def deviation(sums: Array, squares: Array, counts: Array) -> Array:
    """Standard deviations from sums; NaN of fewer than two things.

    Args:
        sums: Sums of the values, of any shape; ``squares`` and ``counts`` have the same.
        squares: Sums of their squares.
        counts: How many there are.
    """
    n = np.where(counts > 1, counts, np.nan)
    variance = squares / n - np.square(sums / n)
    found: Array = np.sqrt(np.clip(variance, 0, None))
    return found
