"""Consistency of a volume along z: steps, correlation and flicker from slice to slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft, rfftfreq

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

LAGS = 8
"""Slices, the farthest that are correlated."""

COLUMN = 32
"""Slices of a column whose power along z is taken, at most."""

SHORTEST = 8
"""Slices of a column, at least: in shorter ones the Hann window smears slow changes over ``FLICKER``."""

FLICKER = 0.25
"""Cycles a slice; power above it is flicker."""


def steps(values: NDArray[Any], mask: NDArray[np.integer[Any]]) -> tuple[Array, NDArray[np.int64]]:
    """Absolute steps from each voxel to the one above, both in the body.

    Args:
        values: (Z, H, W).
        mask: (Z, H, W) labels, 0 outside the body.

    Returns:
        Their sums and their numbers, (2,) each: where the label stays, and where it changes.
    """
    sums, counts = np.zeros(2), np.zeros(2, np.int64)
    for below, above, here, there in zip(values, values[1:], mask, mask[1:], strict=False):
        body = (here != 0) & (there != 0)
        step = np.abs(above.astype(np.float64) - below)
        for kind, where in enumerate((body & (here == there), body & (here != there))):
            sums[kind] += step[where].sum()
            counts[kind] += int(where.sum())
    return sums, counts


def correlations(residual: NDArray[np.floating[Any]], body: Mask) -> Array:
    """Pearson correlation of voxels with those 1 to ``LAGS`` slices above them, both in the body.

    Args:
        residual: (Z, H, W).
        body: (Z, H, W).

    Returns:
        (LAGS,); NaN where no two slices are so far apart, or a value does not vary.
    """
    found = np.full(LAGS, np.nan)
    for lag in range(1, min(LAGS, len(residual) - 1) + 1):
        sums = np.zeros(6)
        for here, there, inside, above in zip(residual, residual[lag:], body, body[lag:], strict=False):
            both = inside & above
            x, y = here[both].astype(np.float64), there[both].astype(np.float64)
            sums += len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y
        n, x, y, xx, yy, xy = sums
        spread = np.array([n * xx - x * x, n * yy - y * y])
        if n and (spread > 1e-9 * n * np.array([xx, yy])).all():
            found[lag - 1] = (n * xy - x * y) / np.sqrt(spread.prod())
    return found


def flicker_power(residual: NDArray[np.floating[Any]], body: Mask) -> float:
    """Power of the residual along z above ``FLICKER``, the mean over frequencies and columns.

    That of white noise is its variance. The slices are split into equal parts of at most ``COLUMN``. A column is a
    pixel that is in the body in all slices of a part; it is multiplied by a Hann window.

    Args:
        residual: (Z, H, W).
        body: (Z, H, W).

    Returns:
        In squared units of the residual; NaN where there is no column of at least ``SHORTEST`` slices.
    """
    total, columns = 0.0, 0
    for part in np.array_split(np.arange(len(residual)), -(-len(residual) // COLUMN)):
        slab = slice(int(part[0]), int(part[-1]) + 1)
        values = residual[slab][:, body[slab].all(axis=0)]
        if len(part) < SHORTEST or not values.size:
            continue
        window = np.hanning(len(part) + 1)[:-1].astype(np.float32)[:, None]  # periodic
        spectrum = rfft(values * window, axis=0)[rfftfreq(len(part)) > FLICKER]
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        total += float(power.mean(axis=0, dtype=np.float64).sum()) / float(np.square(window).sum())
        columns += values.shape[1]
    return total / columns if columns else np.nan
