"""Metrics of the features of pytorch-fid's Inception network."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ctsynth import weights
from ctsynth.data.store import Store, Subject
from ctsynth.errors import DataError
from ctsynth.features.frechet import Stacked
from ctsynth.features.inception import DIMENSIONS, Inception, absent
from ctsynth.files import code_digest
from ctsynth.metrics.base import Arrays, Context, Metric
from ctsynth.scoring.records import StoreRecords

OTHER_WEIGHTS = "CTSYNTH_FD_WEIGHTS"
"""Names a file of other weights for the same network, random ones for a test: the result is not called FID."""

ABSENT = "pytorch-fid or its weights are not here: ctsynth weights list"
"""What the metrics but ``fid`` say where ``fid`` gives the whole reason and the remedy."""

CACHE = "features"
"""Folder of the store that keeps the features of its slices."""

Features = NDArray[np.float32]


class InceptionMetric(Metric):
    """A metric of Inception's features of slices; those of real slices are kept in the store.

    Args:
        store: The real slices; without one nothing is kept, and there is no floor.
        split: Whose subjects are scored; the floor takes the other one.
    """

    def __init__(self, store: Store | None = None, split: str = "") -> None:
        self._store, self._split = store, split
        self._kept = StoreRecords(store.root / CACHE if store else Path(CACHE))

    @classmethod
    def available(cls) -> str | None:
        """Why not: pytorch-fid or its weights are missing, or the weights are not the published ones."""
        if reason := absent():
            return reason
        if other := _other_weights():
            return None if other.is_file() else f"${OTHER_WEIGHTS} is {other}: no such file"
        reason = weights.missing("inception")
        return f"{reason}; {weights.remedy('inception')}" if reason else None

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The distance to the real slices of the store, whose features are kept there."""
        return cls.available() or cls(context.store, context.split)

    @property
    def network(self) -> Mapping[str, Any]:
        """The network's weights, features and code, for ``settings``."""
        return {
            "weights_sha256": self.digest,
            "features": f"{DIMENSIONS}, the last average pool's",
            "slices": "8-bit gray in three channels, the window's ends 0 and 255",
            "resize": "bilinear to 299 x 299",
            "code": {package: version(package) for package in ("pytorch-fid", "torch", "torchvision")},
        }

    @property
    def others(self) -> list[Subject]:
        """The subjects of the other split, which the floor takes."""
        return self._store.subjects("test" if self._split == "train" else "train") if self._store else []

    def features_of(self, subject: Subject) -> Features:
        """The features of a subject's real slices, cached in the store."""
        assert self._store is not None
        window = self._store.window
        known = {"ct": subject.record["ct_sha256"], "window": [window.low, window.high], "weights": self.digest}
        known["code"] = code_digest("features/inception.py", "data/window.py")
        return self._kept.get(known, lambda: {"features": self.net(window.normalize(subject.ct()))})["features"]

    @functools.cached_property
    def net(self) -> Inception:
        """The network."""
        other = _other_weights()
        if other is None:
            return Inception(weights.load("inception"))
        try:
            return Inception(weights.read(other))
        except RuntimeError as error:
            raise DataError(f"${OTHER_WEIGHTS} is {other}: no weights of pytorch-fid's Inception") from error

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        other = _other_weights()
        return weights.digest_of(other) if other else weights.TABLE["inception"].sha256

    @property
    def is_fid(self) -> bool:
        """Whether the weights are those of FID."""
        return self.digest == weights.TABLE["inception"].sha256


def _other_weights() -> Path | None:
    named = os.environ.get(OTHER_WEIGHTS)
    return Path(named) if named else None


def stacked(records: Mapping[str, Arrays], name: str, d: int | None = None) -> Stacked:
    """An entry of all records, (slices, d) with Inception's d if None; one subject in memory at a time."""

    def reading(subject: str) -> Callable[[], Features]:
        return lambda: records[subject][name]

    parts = [(len(records[subject][name]), reading(subject)) for subject in records]
    return Stacked(parts, DIMENSIONS if d is None else d)
