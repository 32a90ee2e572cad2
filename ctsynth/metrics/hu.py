"""Whether organs have the right density: mean and distribution of their HU, and how much subjects differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctsynth.measures.organs import deviation, histograms, wasserstein
from ctsynth.metrics._described import DescribingMetric, of_real, of_synthetic
from ctsynth.metrics.base import Array, Arrays, Pair, Record, Unit, interval, resample
from ctsynth.scoring.result import Result, Value

_LEAST = 1e-3
"""HU; subjects whose means differ by less do not differ."""


class _Organs(NamedTuple):
    """What is known of the organs of several subjects.

    Shapes:
        names: (organs,); those that some real volume shows.
        scored: (organs,); no body and no tissue.
        means: (subjects, organs) HU, NaN where one is absent.
        counts: (subjects, organs, bins) uint32, voxels by HU.
    """

    names: list[str]
    scored: NDArray[np.bool_]
    means: Array
    counts: NDArray[np.uint32]

    @classmethod
    def of(cls, records: Collection[Arrays], known: NDArray[np.bool_]) -> _Organs:
        one = next(iter(records))
        bins = one["counts"].shape[1]
        means, counts = (
            np.empty((len(records), known.sum())),
            np.empty((len(records), known.sum(), bins), np.uint32),
        )
        for row, record in enumerate(records):  # each is read from disk, and is a hundred kB
            means[row], counts[row] = record["hu"][known], record["counts"][known]
        return cls(one["organs"][known].tolist(), one["is_organ"][known], means, counts)


class OrganHU(DescribingMetric):
    """Mean HU of each organ, synthetic minus real: a mean over the subjects that have the organ.

    The number of the set is the mean over organs of the absolute difference; ``body``, the rest of the patient,
    and its tissues are listed but not part of it. HU are those inside the window. Beside it, also over organs:
    the Wasserstein-1 distance of the HU of all voxels of the set, and the spread of the subjects' means, synthetic
    over real, which is below 1 where the contrast phase has collapsed.
    """

    title = "Organ HU error"
    unit = "HU"
    digits = 1
    higher_is_better = False
    rank = 6
    parallel = True
    code: ClassVar[tuple[str, ...]] = ("measures",)
    settings: ClassVar[dict[str, Any]] = {
        "values": "HU within the window",
        "mean": "over a subject's voxels, then over subjects, then organs",
    }

    def describe(self, values: Unit, pair: Pair) -> Record:
        """The ``organs`` of the label set, their mean ``hu``, NaN where absent, and ``counts`` of voxels by HU."""
        ids, names = list(pair.labels.names), list(pair.labels.names.values())
        sizes = np.bincount(pair.mask.ravel(), minlength=pair.labels.num_classes)[ids]
        sums = np.bincount(pair.mask.ravel(), weights=values.ravel(), minlength=pair.labels.num_classes)[ids]
        means = np.full(len(ids), np.nan)
        means[sizes > 0] = pair.window.low + pair.window.width * sums[sizes > 0] / sizes[sizes > 0]
        counts = histograms(
            pair.window.width * values, pair.mask, low=0, bins=round(pair.window.width) + 1,
            num_classes=pair.labels.num_classes,
        )  # fmt: skip
        organs = {organ.id for organ in pair.labels.classes}
        return {
            "organs": names, "hu": means, "is_organ": [number in organs for number in ids],
            "counts": counts[ids].astype(np.uint32),
        }  # fmt: skip

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean absolute difference over organs, and as variants distance and spread; each by organ, too."""
        real, synthetic = of_real(records).values(), of_synthetic(records).values()
        known = _shown(real)
        both = _Organs.of(real, known), _Organs.of(synthetic, known)
        variants = {"w1": self._distances(list(records), *both), "spread": self._spreads(*both)}
        return replace(self._differences(list(records), *both), variants=variants)

    def against(self, real: Mapping[str, Arrays], others: Sequence[Arrays]) -> Result:
        """Means, histograms and spread of the others against those of the scored subjects."""
        known = _shown(real.values()) & _shown(others)
        scored, other = _Organs.of(real.values(), known), _Organs.of(others, known)
        off = np.nanmean(other.means, axis=0) - np.nanmean(scored.means, axis=0) if known.any() else np.zeros(0)
        apart = wasserstein(*(part.counts.sum(axis=0, dtype=np.int64) for part in (scored, other)))
        widths = [np.nanstd(part.means, axis=0) for part in (scored, other)] if known.any() else [off, off]
        use = scored.scored & (widths[0] > 0)
        ratio = float(widths[1][use].sum() / widths[0][use].sum()) if use.any() else None
        return replace(
            self._over_organs(self.title, scored, off, np.abs(off)),
            variants={
                "w1": self._over_organs("Organ HU W1", scored, apart, apart),
                "spread": self._result("Organ HU spread", Value(value=ratio, n=int(use.sum())), digits=2),
            },
        )

    def _over_organs(self, title: str, organs: _Organs, values: Array, absolute: Array) -> Result:
        """Values without intervals, and their mean over the organs that are scored."""
        used = absolute[organs.scored]
        total = Value(value=float(used.mean()) if len(used) else None, n=len(used), unit=self.unit)
        per_organ = {
            name: Value(value=float(value), n=len(organs.means), unit=self.unit)
            for name, value in zip(organs.names, values, strict=True)
        }
        return self._result(title, total, per_organ=per_organ)

    def _differences(self, subjects: Sequence[str], real: _Organs, synthetic: _Organs) -> Result:
        differences = synthetic.means - real.means
        draws = _mean_of_draws(differences)
        per_organ = {
            organ: _organ(real.means[:, n], synthetic.means[:, n], draws[:, n])
            for n, organ in enumerate(real.names)
        }
        absolute = [
            abs(value.value)
            for value, counts in zip(per_organ.values(), real.scored, strict=True)
            if counts and value.value is not None
        ]
        low, high = interval(_mean_known(np.abs(draws[:, real.scored])), len(subjects))
        value = float(np.mean(absolute)) if absolute else None
        total = Value(value=value, low=low, high=high, n=len(absolute), unit=self.unit)
        per_subject = _by_subject(subjects, np.abs(differences[:, real.scored]))
        return self._result(self.title, total, per_organ=per_organ, per_subject=per_subject)

    def _distances(self, subjects: Sequence[str], real: _Organs, synthetic: _Organs) -> Result:
        pooled = [part.counts.sum(axis=0, dtype=np.int64) for part in (real, synthetic)]
        found = wasserstein(*pooled)
        draws = np.stack(
            [
                wasserstein(*(resample(part.counts[:, n].astype(np.float64)) for part in (real, synthetic)))
                for n in range(len(real.names))
            ],
            axis=1,
        ) if real.names else np.empty((1, 0))  # fmt: skip
        per_organ = {
            name: _value(found[n], draws[:, n], int(np.isfinite(real.means[:, n]).sum()), self.unit)
            for n, name in enumerate(real.names)
        }
        used = found[real.scored]
        low, high = interval(_mean_known(draws[:, real.scored]), len(subjects))
        value = float(used.mean()) if len(used) else None
        total = Value(value=value, low=low, high=high, n=len(used), unit=self.unit)
        each = np.stack([wasserstein(*pair) for pair in zip(real.counts, synthetic.counts, strict=True)])
        per_subject = _by_subject(subjects, each[:, real.scored])
        return self._result("Organ HU W1", total, per_organ=per_organ, per_subject=per_subject)

    def _spreads(self, real: _Organs, synthetic: _Organs) -> Result:
        """Sum over organs of the deviation of the subjects' means, synthetic over real."""
        below, below_draws = _deviations(real.means)
        above, above_draws = _deviations(synthetic.means)
        varies = np.nan_to_num(below) > _LEAST
        per_organ = {
            name: _value(above[k] / below[k], _over(above_draws[:, k], below_draws[:, k]), len(real.means), "")
            for k, name in enumerate(real.names)
            if varies[k]
        }
        use = real.scored & varies
        if not use.any():
            return self._result("Organ HU spread", Value(value=None, n=0), digits=2)
        draws = _over(*(np.nansum(part[:, use], axis=1) for part in (above_draws, below_draws)))
        low, high = interval(draws, len(real.means))
        total = Value(value=float(above[use].sum() / below[use].sum()), low=low, high=high, n=int(use.sum()))
        return self._result("Organ HU spread", total, digits=2, per_organ=per_organ)

    def _result(self, title: str, total: Value, *, digits: int | None = None, **parts: Any) -> Result:  # noqa: ANN401
        """``digits`` are those of a ratio, of which neither more nor less is better."""
        return Result(
            title=title,
            total=total,
            digits=self.digits if digits is None else digits,
            higher_is_better=self.higher_is_better if digits is None else None,
            counted="organs",
            settings=self.settings,
            **parts,
        )


def _shown(records: Iterable[Arrays]) -> NDArray[np.bool_]:
    """(organs,): those that some volume shows."""
    return np.isfinite(np.stack([record["hu"] for record in records])).any(axis=0)


def _organ(real: Array, synthetic: Array, draws: Array) -> Value:
    """One organ from its means, (subjects,), NaN where it is absent, and its bootstrapped differences."""
    has = np.isfinite(real)
    means = float(real[has].mean()), float(synthetic[has].mean())
    parts = dict(zip(("real", "synthetic"), means, strict=True))
    return replace(_value(means[1] - means[0], draws, int(has.sum()), OrganHU.unit), parts=parts)


def _value(value: float, draws: Array, n: int, unit: str) -> Value:
    low, high = interval(draws, n)
    return Value(value=float(value), low=low, high=high, n=n, unit=unit)


def _deviations(means: Array) -> tuple[Array, Array]:
    """Standard deviation over subjects of each organ's mean, (organs,), and bootstrapped, (RESAMPLES, organs)."""
    has = np.isfinite(means)
    centered = np.where(has, means, 0) - (np.where(has, means, 0).sum(axis=0) / np.maximum(has.sum(axis=0), 1))
    sums = [np.where(has, centered, 0), np.where(has, np.square(centered), 0), has.astype(np.float64)]
    return deviation(*(part.sum(axis=0) for part in sums)), deviation(*map(resample, sums))


def _over(above: Array, below: Array) -> Array:
    """A ratio of bootstrapped deviations; NaN where the lower one is next to nothing."""
    ratio: Array = np.divide(above, below, out=np.full_like(above, np.nan), where=np.nan_to_num(below) > _LEAST)
    return ratio


def _by_subject(subjects: Sequence[str], values: Array) -> dict[str, float | None]:
    """The mean of each row of (subjects, organs), over the organs that it has."""
    return {
        name: float(np.nanmean(row)) if np.isfinite(row).any() else None
        for name, row in zip(subjects, values, strict=True)
    }


def _mean_known(values: Array) -> Array:
    """(RESAMPLES, organs) to (RESAMPLES,), over the organs that a resample has."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
    means: Array = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return means


def _mean_of_draws(values: Array) -> Array:
    """Bootstrapped means over subjects, (RESAMPLES, organs); NaN where no drawn subject has the organ."""
    has = np.isfinite(values)
    sums, counts = resample(np.where(has, values, 0)), resample(has.astype(np.float64))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
