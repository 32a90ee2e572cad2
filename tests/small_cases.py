"""Patients of a few voxels, made on the spot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SPACING = 12.0  # mm, of the small cases: a body of 300 x 220 mm on 32 x 24 voxels


class SmallCase(NamedTuple):
    """A patient of a few voxels: (32, 24, 6) RAS+, an elliptic body with liver, spleen and a gas bubble."""

    hu: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def make_small_case(seed: int = 0) -> SmallCase:
    """Makes a small case; each seed is another patient."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.meshgrid(np.arange(32) - 15.5, np.arange(24) - 11.5, np.arange(6), indexing="ij")
    body = (x / 12.5) ** 2 + (y / 9.2) ** 2 <= 1
    hu = np.where(body, 40, -1000) + rng.integers(-15, 16, body.shape)
    labels = np.zeros(body.shape, np.uint8)
    labels[(x - 5) ** 2 + y**2 <= 16] = 6
    labels[(x + 6) ** 2 + (y + 2) ** 2 <= 6] = 1
    hu[labels == 6] += 60
    hu[(x + 2) ** 2 + (y - 4) ** 2 <= 2] = -950
    affine = np.diag([SPACING, SPACING, 5.0, 1.0])
    affine[:3, 3] = rng.uniform(-200, 0, 3).astype(np.float32)
    return SmallCase(hu.astype(np.int16), labels, affine)
