"""Whether organs have the right density: their mean Hounsfield units, synthetic against real."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ctsynth.labels import BODY
from ctsynth.metrics.base import Array, Metric, Pair, interval, resample
from ctsynth.scores import Result, Value


class OrganHU(Metric):
    """Mean HU of each organ, synthetic minus real: a mean over the subjects that have the organ.

    The number of the set is the mean over organs of the absolute difference; ``body``, the rest of the patient, is
    listed but not part of it. HU are those inside the window.
    """

    title = "Organ HU error"
    unit = "HU"
    digits = 1
    higher_is_better = False
    rank = 6
    settings: ClassVar[dict[str, Any]] = {
        "values": "HU within the window",
        "mean": "over a subject's voxels, then over subjects, then organs",
    }

    def __init__(self) -> None:
        self._means: dict[str, dict[str, tuple[float, float]]] = {}
        self._order: list[str] = []

    def add(self, pair: Pair) -> None:
        """Takes a subject in."""
        self._order = list(pair.labels.names.values())
        sizes = np.bincount(pair.mask.ravel(), minlength=pair.labels.num_classes)
        sums = [
            np.bincount(pair.mask.ravel(), weights=slices.ravel(), minlength=len(sizes))
            for slices in (pair.real, pair.synthetic)
        ]
        low, width = pair.window.low, pair.window.width
        self._means[pair.subject] = {
            name: (float(low + width * sums[0][n] / sizes[n]), float(low + width * sums[1][n] / sizes[n]))
            for n, name in pair.labels.names.items()
            if sizes[n]
        }

    def result(self) -> Result:
        """The mean absolute difference over organs; per organ the difference, and both means as its parts."""
        organs = [name for name in self._order if any(name in means for means in self._means.values())]
        empty = (np.nan, np.nan)
        means = np.array([[m.get(organ, empty) for organ in organs] for m in self._means.values()], np.float64)
        means = means.reshape(len(self._means), len(organs), 2)
        differences = means[..., 1] - means[..., 0]
        scored = np.array([organ != BODY for organ in organs], bool)
        draws = _mean_of_draws(differences)
        per_organ = {organ: _organ(means[:, n], draws[:, n]) for n, organ in enumerate(organs)}
        absolute = [
            abs(value.value) for name, value in per_organ.items() if name != BODY and value.value is not None
        ]
        low, high = interval(_mean_absolute(draws[:, scored]), len(self._means))
        value = float(np.mean(absolute)) if absolute else None
        return Result(
            title=self.title,
            total=Value(value=value, low=low, high=high, n=len(absolute), unit=self.unit),
            digits=self.digits,
            higher_is_better=self.higher_is_better,
            counted="organs",
            per_subject={
                name: float(np.nanmean(np.abs(row[scored]))) if np.isfinite(row[scored]).any() else None
                for name, row in zip(self._means, differences, strict=True)
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
