"""Fréchet distance between real and synthetic slices where Inception's weights cannot be had."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Self

from ctsynth.features.frechet import Stacked, frechet_distance
from ctsynth.metrics._features import FeatureMetric, trained_segmenter
from ctsynth.metrics._inception import stacked
from ctsynth.metrics.base import Arrays, Context, Pair, Record
from ctsynth.scoring.result import Result, Value

NEEDS = "it needs a run of ctsynth train-segmenter: ctsynth score --segmenter runs/segmenter"


class Frechet(FeatureMetric):
    """Fréchet distance on the features of a trained segmenter; it is not FID, and compares to no FID.

    All synthetic slices against the real slices of the same subjects, as in FID. The segmenter is the one that
    --segmenter names, a run of ``ctsynth train-segmenter``; a slice's features are the mean of its coarsest level.
    Distances compare methods under one segmenter.
    """

    title = "Fréchet distance"
    digits = 3
    higher_is_better = False
    rank = 11

    @classmethod
    def available(cls) -> str | None:
        """The reason, for only a scoring knows its segmenter."""
        return NEEDS

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """With the segmenter's features."""
        extractor = trained_segmenter(context)
        return cls(extractor, context.store, context.split) if extractor else NEEDS

    def measure(self, pair: Pair) -> Record:
        """The features of the ``real`` and the ``synthetic`` slices, (Z, d) each."""
        return {"real": self.real_features(pair), "synthetic": self.extractor.features(pair.synthetic)}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The distance of the synthetic slices to the real ones."""
        return self._compare(records, stacked(records, "synthetic", _features(records)))

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The distance of the real slices of the other split to those that were scored."""
        if not self.others:
            return None
        parts = [(one.slices, functools.partial(self.extractor.features_of, one)) for one in self.others]
        return self._compare(records, Stacked(parts, _features(records)))

    def _compare(self, records: Mapping[str, Arrays], other: Stacked) -> Result:
        features = _features(records)
        real = stacked(records, "real", features)
        n = min(len(real), len(other))
        few = f"of {n:,} slices, no more than its {features:,} features: compare only sets of as many slices"
        return Result(
            title=f"{self.title} ({self.extractor.name})",
            total=Value(value=frechet_distance(real, other) if n > 1 else None, n=n),
            digits=self.digits,
            higher_is_better=self.higher_is_better,
            settings=self.settings,
            notes=(few,) if n <= features else (),
        )


def _features(records: Mapping[str, Arrays]) -> int:
    """How many features a slice has."""
    return int(next(iter(records.values()))["real"].shape[1])
