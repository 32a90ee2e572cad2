"""Features of slices, of Inception or of a trained segmenter, for the metrics that take either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.store import Store, Subject
from ctsynth.files import code_digest
from ctsynth.metrics._inception import CACHE, Features
from ctsynth.metrics.base import Context, Metric, Pair
from ctsynth.metrics.fid import FID
from ctsynth.scoring.records import StoreRecords


class Extractor(Protocol):
    """Makes features of slices.

    Attributes:
        name: What made them, for the heading.
        settings: What they depend on.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...

    def features(self, slices: NDArray[np.floating[Any]]) -> Features:
        """(Z, H, W) in [0, 1] to (Z, d)."""

    def features_of(self, subject: Subject) -> Features:
        """Those of a subject's real slices."""


@dataclass(frozen=True)
class OfInception:
    """Inception's, by the rules of FID."""

    fid: FID

    @property
    def name(self) -> str:
        return "Inception" if self.fid.is_fid else "Inception, other weights"

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.fid.network

    def features(self, slices: NDArray[np.floating[Any]]) -> Features:
        return self.fid.net(slices)

    def features_of(self, subject: Subject) -> Features:
        return self.fid.features_of(subject)


class OfSegmenter:
    """Those of a run of ``ctsynth train-segmenter``."""

    def __init__(self, run: str, context: Context) -> None:
        from ctsynth.segmentation.trained import TrainedSegmenter

        self._store = context.store
        self._segmenter = TrainedSegmenter(Path(run), context.segmenting.device)
        self._segmenter.check(context.store)
        self._kept = StoreRecords(context.store.root / CACHE)

    @property
    def name(self) -> str:
        return self._segmenter.name

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._segmenter.settings

    def features(self, slices: NDArray[np.floating[Any]]) -> Features:
        return self._segmenter.features(slices)

    def features_of(self, subject: Subject) -> Features:
        window = self._store.window
        known = {
            "ct": subject.record["ct_sha256"],
            "window": [window.low, window.high],
            "segmenter": dict(self.settings),
            "code": code_digest("networks", "segmenters", "segmentation/trained.py", "data/window.py"),
        }
        made = self._kept.get(known, lambda: {"features": self.features(window.normalize(subject.ct()))})
        return made["features"]


def trained_segmenter(context: Context) -> OfSegmenter | None:
    """The features of the segmenter that --segmenter names, if it is a run of ``ctsynth train-segmenter``."""
    run = context.segmenting.segmenter
    if run is None or not (Path(run) / "config.json").is_file():
        return None
    return OfSegmenter(run, context)


class FeatureMetric(Metric):
    """A metric of the features of slices.

    Args:
        extractor: Makes the features.
        store: The real slices.
        split: Whose subjects are scored; the floor takes the other one.
    """

    def __init__(self, extractor: Extractor, store: Store, split: str) -> None:
        self.extractor, self._store, self._split = extractor, store, split

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the features depend on."""
        return {"features of": self.extractor.name, **self.extractor.settings}

    @property
    def others(self) -> list[Subject]:
        """The subjects of the other split, which the floor takes."""
        return self._store.subjects("test" if self._split == "train" else "train")

    def ahead(self, subjects: Sequence[Subject]) -> None:
        """Computes the features of real slices that are not in the store."""
        for subject in subjects:
            self.extractor.features_of(subject)

    def real_features(self, pair: Pair) -> Features:
        """Those of a pair's real slices, kept in the store if they are the store's."""
        known = self._store.subjects_by_name.get(pair.subject)
        return self.extractor.features_of(known) if known else self.extractor.features(pair.real)
