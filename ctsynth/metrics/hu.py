"""Whether organs have the right density: their mean Hounsfield units, synthetic against real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ctsynth.metrics.base import Array, Arrays, Metric, Pair, Record, interval, resample
from ctsynth.scoring.scores import Result, Value


class OrganHU(Metric):
    """Mean HU of each organ, synthetic minus real: a mean over the subjects that have the organ.

    The number of the set is the mean over organs of the absolute difference; ``body``, the rest of the patient,
    and its tissues are listed but not part of it. HU are those inside the window.
    """

    title = "Organ HU error"
    unit = "HU"
    digits = 1
    higher_is_better = False
    rank = 6
    parallel = True
    settings: ClassVar[dict[str, Any]] = {
        "values": "HU within the window",
        "mean": "over a subject's voxels, then over subjects, then organs",
    }

    def measure(self, pair: Pair) -> Record:
        """The ``organs`` of the label set, and their mean ``hu``, real and synthetic; NaN where one is absent."""
        ids, names = list(pair.labels.names), list(pair.labels.names.values())
        sizes = np.bincount(pair.mask.ravel(), minlength=pair.labels.num_classes)
        means = np.full((len(ids), 2), np.nan)
        has = sizes[ids] > 0
        for place, slices in enumerate((pair.real, pair.synthetic)):
            sums = np.bincount(pair.mask.ravel(), weights=slices.ravel(), minlength=len(sizes))[ids]
            means[has, place] = pair.window.low + pair.window.width * sums[has] / sizes[ids][has]
        organs = {organ.id for organ in pair.labels.classes}
        return {"organs": names, "hu": means, "is_organ": [number in organs for number in ids]}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean absolute difference over organs; per organ the difference, and both means as its parts."""
        means = np.stack([record["hu"] for record in records.values()])
        known = np.isfinite(means).any(axis=(0, 2))
        means = means[:, known]
        one = next(iter(records.values()))
        organs, scored = one["organs"][known].tolist(), one["is_organ"][known]
        differences = means[..., 1] - means[..., 0]
        draws = _mean_of_draws(differences)
        per_organ = {organ: _organ(means[:, n], draws[:, n]) for n, organ in enumerate(organs)}
        absolute = [
            abs(value.value)
            for value, counts in zip(per_organ.values(), scored, strict=True)
            if counts and value.value is not None
        ]
        low, high = interval(_mean_absolute(draws[:, scored]), len(records))
        value = float(np.mean(absolute)) if absolute else None
        return Result(
            title=self.title,
            total=Value(value=value, low=low, high=high, n=len(absolute), unit=self.unit),
            digits=self.digits,
            higher_is_better=self.higher_is_better,
            counted="organs",
            per_subject={
                name: float(np.nanmean(np.abs(row[scored]))) if np.isfinite(row[scored]).any() else None
                for name, row in zip(records, differences, strict=True)
            },
            per_organ=per_organ,
            settings=self.settings,
        )


def _organ(means: Array, draws: Array) -> Value:
    """One organ from its (subjects, 2) means, NaN where it is absent, and its bootstrapped differences."""
    has = np.isfinite(means[:, 0])
    low, high = interval(draws, int(has.sum()))
    real, synthetic = map(float, means[has].mean(axis=0))
    parts = {"real": real, "synthetic": synthetic}
    return Value(value=synthetic - real, low=low, high=high, n=int(has.sum()), unit=OrganHU.unit, parts=parts)


def _mean_absolute(draws: Array) -> Array:
    """(RESAMPLES, organs) to (RESAMPLES,), over the organs that a resample has."""
    known = np.isfinite(draws)
    total, count = np.where(known, np.abs(draws), 0).sum(axis=1), known.sum(axis=1)
    means: Array = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return means


def _mean_of_draws(values: Array) -> Array:
    """Bootstrapped means over subjects, (RESAMPLES, organs); NaN where no drawn subject has the organ."""
    has = np.isfinite(values)
    sums, counts = resample(np.where(has, values, 0)), resample(has.astype(np.float64))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
