"""Noise power spectrum of homogeneous regions: how much noise, and how fine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

ROI = 32
"""Side of a region of interest, pixels."""

EROSION = 5.0
"""mm that a region keeps away from the organ's border."""


def eroded(organ: Mask, spacing: Sequence[float]) -> Mask:
    """The voxels of an organ that lie farther than ``EROSION`` from its border.

    Args:
        organ: (Z, H, W).
        spacing: Along Z, H and W, mm.
    """
    inner = np.zeros_like(organ)
    if organ.any():
        box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(organ))
        padded = np.pad(organ[box], 1)
        depth = distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
        inner[box] = depth > EROSION
    return inner


def regions(inner: Mask) -> list[tuple[int, int, int]]:
    """Where regions of ``ROI`` x ``ROI`` pixels lie wholly inside a mask, overlapping by half at most.

    Args:
        inner: (Z, H, W).

    Returns:
        Slice, row and column of the first pixel of each.
    """
    found = []
    for z, plane in enumerate(inner):
        if plane.sum() < ROI * ROI:
            continue
        sums = np.pad(plane, ((1, 0), (1, 0))).astype(np.int64).cumsum(axis=0).cumsum(axis=1)
        inside = sums[ROI:, ROI:] - sums[:-ROI, ROI:] - sums[ROI:, :-ROI] + sums[:-ROI, :-ROI] == ROI * ROI
        while inside.any():
            row, column = (int(place) for place in np.unravel_index(int(inside.argmax()), inside.shape))
            found.append((z, row, column))
            half = ROI // 2
            inside[: row + half, max(column - half + 1, 0) : column + half] = False
    return found


def spectrum(patches: NDArray[Any], pixel: float) -> Array:
    """Radial noise power spectrum of patches of noise, the mean over patches.

    A second-order surface is subtracted from each, as a patch of an organ is not flat.

    Args:
        patches: (n, ROI, ROI) HU.
        pixel: mm.

    Returns:
        (ROI / 2,) HU^2 mm^2 at ``frequencies``.
    """
    power = np.abs(np.fft.fft2(_flattened(patches))) ** 2 * pixel**2 / ROI**2
    along = np.fft.fftfreq(ROI) * ROI
    ring = np.rint(np.hypot(along[:, None], along)).astype(int).ravel()
    mean = power.mean(axis=0).ravel()
    sums, counts = np.bincount(ring, weights=mean), np.bincount(ring)
    return np.asarray((sums / counts)[1 : ROI // 2 + 1])


def frequencies(pixel: float) -> Array:
    """(ROI / 2,) line pairs (cycles) a cm, up to the Nyquist frequency."""
    return np.arange(1, ROI // 2 + 1) / (ROI * pixel) * 10


def variance(patches: NDArray[Any]) -> float:
    """Variance of patches about their second-order surfaces, HU^2."""
    return float(np.square(_flattened(patches)).mean())


def mean_frequency(power: Array, pixel: float) -> float:
    """The mean frequency of a radial spectrum, lp/cm."""
    return float((frequencies(pixel) * power).sum() / power.sum())


def _flattened(patches: NDArray[Any]) -> Array:
    row, column = np.meshgrid(*[np.linspace(-1, 1, ROI)] * 2, indexing="ij")
    surface = np.stack([np.ones_like(row), row, column, row * column, row**2, column**2]).reshape(6, -1)
    basis, _ = np.linalg.qr(surface.T)
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    return np.asarray((flat - flat @ basis @ basis.T).reshape(-1, ROI, ROI))
