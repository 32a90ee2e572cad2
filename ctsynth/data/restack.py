"""Brings a synthetic volume to the slices that a subject has in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.formats import record_beside
from ctsynth.data.record import DIGEST
from ctsynth.data.slices import stacked_geometry, to_slices, unstack
from ctsynth.data.store import Store, Subject
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError
from ctsynth.files import read_json, sha256


def stacked_slices(path: Path, subject: Subject, store: Store) -> NDArray[np.float32]:
    """The slices of a volume of HU.

    It may lie on the grid of the re-stacked slices or on that of the source file, in any orientation.

    Returns:
        (Z, size, size) in [0, 1], the window's ends.

    Raises:
        DataError: The volume is on another grid, or its values cannot be HU.
    """
    volume = Volume.load(path)
    stacked = stacked_geometry(subject.geometry, store.size)
    _check_values(volume.voxels, path, store)
    if volume.geometry.same_as(stacked):
        slices = unstack(volume.voxels)
    elif volume.geometry.same_as(subject.geometry):
        slices = to_slices(store.window.clip(volume.voxels), store.size, "ct", air=store.window.air)
    else:
        raise DataError(
            f"{path}: its grid is {volume.geometry}; {subject.name} has "
            f"{subject.geometry}, and {stacked} as slices",
            hint="bring it to one of these grids, or draw it from the label map of that subject",
        )
    return store.window.normalize(np.ascontiguousarray(slices))


def _check_values(voxels: NDArray[Any], path: Path, store: Store) -> None:
    """Refuses what cannot be HU: gray values in [0, 1], [-1, 1] or 0..255 would give numbers, and wrong ones."""
    lowest, highest = float(voxels.min()), float(voxels.max())
    if not np.isfinite([lowest, highest]).all():
        raise DataError(f"{path}: it holds NaN or infinity", hint="draw it again")
    is_gray = max(-lowest, highest) <= 1.001 or (lowest >= 0 and highest <= 255 and store.window.low < 0)
    if is_gray and not _was_drawn_here(path):
        low, width = store.window.low, store.window.width
        raise DataError(
            f"{path}: its values are within [{lowest:g}, {highest:g}], which cannot be HU of a patient in air",
            hint=f"bring it to Hounsfield units: HU = {width:g} x {low:+g} for x in [0, 1]",
        )


def _was_drawn_here(path: Path) -> bool:
    """Whether a record of `sample` belongs to it: then it is in HU, even if an early model drew no air."""
    try:
        record = read_json(record_beside(path))
    except DataError:
        return False
    return isinstance(record, dict) and record.get(DIGEST) == sha256(path)
