"""Whether synthetic slices look like real ones, and whether all kinds of real ones are among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.store import Store, Subject
from ctsynth.features.frechet import Stacked
from ctsynth.files import code_digest
from ctsynth.measures.neighbors import density_and_coverage
from ctsynth.metrics._inception import ABSENT, CACHE, Features
from ctsynth.metrics.base import Array, Arrays, Context, Metric, Pair, Record, ratio
from ctsynth.metrics.fid import FID
from ctsynth.scoring.records import StoreRecords
from ctsynth.scoring.result import Result

K = 5
"""The ball of a real slice reaches to this neighbor among the real slices, its fifth nearest."""


class Extractor(Protocol):
    """Makes features of slices.

    Attributes:
        name: What made them, for the heading.
        settings: What they depend on.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102

    def features(self, slices: NDArray[np.floating[Any]]) -> Features:
        """(Z, H, W) in [0, 1] to (Z, d)."""

    def features_of(self, subject: Subject) -> Features:
        """Those of a subject's real slices."""


class Coverage(Metric):
    """Share of real slices whose ball holds a synthetic slice (Naeem et al. 2020); 1 is all.

    The ball of a real slice reaches to its 5th nearest real neighbor, in features of Inception or of the segmenter
    that --segmenter names, as the heading says. Beside it the density: in how many balls a synthetic slice lies,
    over 5; about 1 is right. Slices without a body are left out.
    """

    title = "Coverage"
    digits = 3
    higher_is_better = True
    rank = 12

    def __init__(self, extractor: Extractor, store: Store, split: str) -> None:
        self._extractor, self._store, self._split = extractor, store, split

    @classmethod
    def available(cls) -> str | None:
        """The reason if there is neither Inception nor a segmenter."""
        other = "or a run of ctsynth train-segmenter as the segmenter"
        return f"{ABSENT}, {other}" if FID.available() else None

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """With Inception's features, else with those of a trained segmenter."""
        reason = cls.available()
        if reason is None:
            return cls(_OfInception(FID(context.store, context.split)), context.store, context.split)
        run = context.segmenting.segmenter
        if run is None or not (Path(run) / "config.json").is_file():
            return reason
        return cls(_OfSegmenter(run, context), context.store, context.split)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The features, and k."""
        return {"features of": self._extractor.name, "k": K, **self._extractor.settings}

    def measure(self, pair: Pair) -> Record:
        """The features of the slices that show a body, ``real`` and ``synthetic``, (n, d) each."""
        shown = pair.mask.any(axis=(1, 2))
        known = self._store.subjects_by_name.get(pair.subject)
        real = self._extractor.features_of(known) if known else self._extractor.features(pair.real)
        return {"real": real[shown], "synthetic": self._extractor.features(pair.synthetic[shown])}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The share of the set and of each subject, and as variant the density."""
        return self._compare(records, list(records), self._stacked(records, "synthetic"))

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same for the real slices of the other split."""
        others = self._store.subjects("test" if self._split == "train" else "train")
        if not others:
            return None

        def reading(subject: Subject) -> Callable[[], Features]:
            return lambda: self._extractor.features_of(subject)[subject.mask().any(axis=(1, 2))]

        parts = [(int(one.mask().any(axis=(1, 2)).sum()), reading(one)) for one in others]
        return self._compare(records, [one.name for one in others], _Parts(parts))

    def ahead(self, subjects: Sequence[Subject]) -> None:
        """Computes the features of real slices that are not in the store."""
        for subject in subjects:
            self._extractor.features_of(subject)

    def _stacked(self, records: Mapping[str, Arrays], name: str) -> _Parts:
        def reading(subject: str) -> Callable[[], Features]:
            return lambda: records[subject][name]

        return _Parts([(len(records[subject][name]), reading(subject)) for subject in records])

    def _compare(self, records: Mapping[str, Arrays], names: Sequence[str], synthetic: _Parts) -> Result:
        real = self._stacked(records, "real")
        enough = len(real.stacked) > K and len(synthetic.stacked) > 0
        density, covered = (
            density_and_coverage(real.stacked, synthetic.stacked, K)
            if enough
            else (np.zeros(0), np.zeros(0, np.bool_))
        )
        found = self._share(self.title, list(records), real.split(covered.astype(np.float64)))
        dense = replace(self._share("Density", names, synthetic.split(density)), higher_is_better=None)
        return replace(found, variants={"density": dense})

    def _share(self, title: str, names: Sequence[str], values: Sequence[Array]) -> Result:
        sums = np.array([each.sum() for each in values])
        counts = np.array([float(len(each)) for each in values])
        return Result(
            title=f"{title} ({self._extractor.name})",
            total=ratio(sums, counts, n=int(counts.sum()), unit=""),
            digits=self.digits,
            higher_is_better=self.higher_is_better,
            per_subject={
                name: float(each.mean()) if len(each) else None for name, each in zip(names, values, strict=True)
            },
            settings=self.settings,
        )


class _Parts:
    """Features of several subjects, one in memory at a time."""

    def __init__(self, parts: Sequence[tuple[int, Callable[[], Features]]]) -> None:
        self._ends = np.cumsum([n for n, _ in parts])[:-1]
        self.stacked = Stacked(parts, parts[0][1]().shape[1])

    def split(self, values: Array) -> list[Array]:
        """Values of all slices, by subject; none where there are none."""
        if not len(values):
            return [values] * (len(self._ends) + 1)
        return np.split(values, self._ends)


@dataclass(frozen=True)
class _OfInception:
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


class _OfSegmenter:
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
        return self._kept.get(known, lambda: {"features": self.features(window.normalize(subject.ct()))})[
            "features"
        ]
