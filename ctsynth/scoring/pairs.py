"""A subject of the store and a synthetic volume, brought to the same slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctsynth.data.restack import stacked_slices
from ctsynth.data.slices import stacked_geometry
from ctsynth.data.store import Store, Subject
from ctsynth.metrics.base import Pair


def read_pair(subject: Subject, path: Path, store: Store) -> Pair:
    """A subject's real slices and its synthetic ones, as ``stacked_slices`` brings them to the same grid.

    Raises:
        DataError: The volume is on another grid, or its values cannot be HU.
    """
    return Pair(
        subject=subject.name,
        real=store.window.normalize(subject.ct()),
        synthetic=stacked_slices(path, subject, store),
        mask=np.asarray(subject.mask()),
        labels=store.labels,
        window=store.window,
        geometry=stacked_geometry(subject.geometry, store.size),
    )
