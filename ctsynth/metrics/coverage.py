"""Whether synthetic slices look like real ones, and whether all kinds of real ones are among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from ctsynth.data.store import Subject
from ctsynth.features.frechet import Stacked
from ctsynth.measures.neighbors import density_and_coverage
from ctsynth.metrics._features import FeatureMetric, OfInception, trained_segmenter
from ctsynth.metrics._inception import ABSENT, Features
from ctsynth.metrics.base import Array, Arrays, Context, Pair, Record, ratio
from ctsynth.metrics.fid import FID
from ctsynth.scoring.result import Result

K = 5
"""The ball of a real slice reaches to this neighbor among the real slices, its fifth nearest."""


class Coverage(FeatureMetric):
    """Share of real slices whose ball holds a synthetic slice (Naeem et al. 2020); 1 is all.

    The ball of a real slice reaches to its 5th nearest real neighbor, in features of Inception or of the segmenter
    that --segmenter names, as the heading says. Beside it the density: in how many balls a synthetic slice lies,
    over 5; about 1 is right. Slices without a body are left out.
    """

    title = "Coverage"
    digits = 3
    higher_is_better = True
    rank = 12

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
            return cls(OfInception(FID(context.store, context.split)), context.store, context.split)
        extractor = trained_segmenter(context)
        return cls(extractor, context.store, context.split) if extractor else reason

    @property
    def settings(self) -> Mapping[str, Any]:
        """The features, and k."""
        return {**super().settings, "k": K}

    def measure(self, pair: Pair) -> Record:
        """The features of the slices that show a body, ``real`` and ``synthetic``, (n, d) each."""
        shown = pair.mask.any(axis=(1, 2))
        synthetic = self.extractor.features(pair.synthetic[shown])
        return {"real": self.real_features(pair)[shown], "synthetic": synthetic}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The share of the set and of each subject, and as variant the density."""
        return self._compare(records, list(records), self._stacked(records, "synthetic"))

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same for the real slices of the other split."""
        if not self.others:
            return None

        def reading(subject: Subject) -> Callable[[], Features]:
            return lambda: self.extractor.features_of(subject)[subject.mask().any(axis=(1, 2))]

        parts = [(int(one.mask().any(axis=(1, 2)).sum()), reading(one)) for one in self.others]
        return self._compare(records, [one.name for one in self.others], _Parts(parts))

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
            title=f"{title} ({self.extractor.name})",
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
