"""What a header may declare: one 3-D volume, no larger than a CT is and this machine can hold."""

from __future__ import annotations

import math
from pathlib import Path

from ctsynth.device import memory
from ctsynth.errors import DataError, RunError

Shape = tuple[int, int, int]

MOST_A_SIDE = 8192
"""Voxels along an axis: 2 m of slices 0.25 mm apart, or eight times the usual matrix of a CT."""

MOST_VOXELS = 2**31
"""Most voxels of a volume, also when its slices are padded to squares: 2048 slices of 1024 x 1024."""


def check_shape(path: Path, shape: tuple[int, ...]) -> Shape:
    """The shape of one 3-D volume, as a header declares it.

    Raises:
        DataError: It is none, or larger than any CT.
    """
    if len(shape) < 3 or any(length != 1 for length in shape[3:]) or min(shape) < 1:
        raise DataError(f"{path}: its shape is {shape}, not that of one 3-D volume")
    if max(shape) > MOST_A_SIDE or math.prod(shape) > MOST_VOXELS:
        raise DataError(
            f"{path}: its shape is {shape}, wanted up to {MOST_A_SIDE:,} voxels a side and {MOST_VOXELS:,} in all"
        )
    return shape[0], shape[1], shape[2]


def check_memory(path: Path, length: int) -> None:
    """Refuses a file that declares more bytes than this machine has memory.

    Raises:
        RunError: It does.
    """
    there = memory()
    if length > there:
        raise RunError(
            f"{path}: its header declares {length / 2**30:.1f} GiB of voxels, and this machine has"
            f" {there / 2**30:.1f} GiB of memory"
        )
