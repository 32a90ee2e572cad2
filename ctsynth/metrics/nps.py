"""Whether noise and fine texture of liver and spleen have the right strength and grain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from ctsynth.measures.noise_power import (
    EROSION,
    ROI,
    eroded,
    frequencies,
    mean_frequency,
    regions,
    spectrum,
    variance,
)
from ctsynth.metrics._described import DescribingMetric, joined, of_real, of_synthetic
from ctsynth.metrics.base import Array, Arrays, Context, Pair, Record, Unit, ratio
from ctsynth.scoring.result import Curve, Result, Value

ORGANS = ("liver", "spleen")

SMALLEST = 4 * ROI
"""Side of a slice, pixels, below which no organ holds a region."""

MOST_OFF = 0.2
"""lp/cm; a difference of mean frequency beyond it is flagged (J Med Imaging 11:035501, 2024)."""


class NoisePowerSpectrum(DescribingMetric):
    """Standard deviation of the noise in liver and spleen, synthetic / real; 1 is ideal.

    Measured in squares of 32 pixels at least 5 mm from the organ's border, after subtracting a second-order
    surface. Beside it the difference of the mean frequency of the radial power spectrum, in lp/cm.
    """

    title = "Noise ratio"
    rank = 10
    parallel = True
    code: ClassVar[tuple[str, ...]] = ("measures",)
    settings: ClassVar[dict[str, Any]] = {
        "organs": list(ORGANS),
        "regions": f"{ROI} x {ROI} px, {EROSION:g} mm from the border, second-order surface subtracted",
        "spectrum": "radial, up to the Nyquist frequency",
        "ratio": "of sums over subjects and organs",
    }

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The metric, or why not: the label set has neither organ, or slices are too coarse."""
        if not set(ORGANS) & set(context.store.labels.names.values()):
            return f"it needs {' or '.join(ORGANS)}, and the label set {context.store.labels.name} has neither"
        if context.store.size < SMALLEST:
            return f"it needs slices of at least {SMALLEST} x {SMALLEST} pixels, these have {context.store.size}"
        return super().make(context)

    def describe(self, values: Unit, pair: Pair) -> Record:
        """By organ, NaN where it has no region: the noise's ``deviation``, ``frequency`` and ``power``."""
        x, y, z = pair.geometry.spacing
        ids = {name: number for number, name in pair.labels.names.items()}
        deviations, means = np.full(len(ORGANS), np.nan), np.full(len(ORGANS), np.nan)
        power = np.full((len(ORGANS), ROI // 2), np.nan)
        for place, organ in enumerate(ORGANS):
            found = regions(eroded(pair.mask == ids[organ], (z, y, x))) if organ in ids else []
            if found:
                patches = np.stack([values[k, r : r + ROI, c : c + ROI] for k, r, c in found]) * pair.window.width
                deviations[place] = np.sqrt(variance(patches))
                power[place] = spectrum(patches, x)
                means[place] = mean_frequency(power[place], x) if power[place].any() else 0
        return {"deviation": deviations, "frequency": means, "power": power, "lp_cm": frequencies(x)}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The ratio of the set, each subject and organ, the mean spectra, and as variant the frequencies."""
        real, synthetic = of_real(records), of_synthetic(records)
        below, above = (np.array([r["deviation"] for r in part.values()]) for part in (real, synthetic))
        known = np.isfinite(below) & np.isfinite(above) & (below > 0)
        sums = [np.where(known, part, 0) for part in (above, below)]
        totals, has = [part.sum(axis=1) for part in sums], known.any(axis=1)
        each = np.divide(totals[0], totals[1], out=np.full(len(known), np.nan), where=has)
        without = int((~has).sum())
        where = f"no {ROI} x {ROI} pixels of {' or '.join(ORGANS)} {EROSION:g} mm from the border"
        notes = (f"{without} of {len(known)} subjects have {where}: left out",) if without else ()
        found = Result(
            title=self.title,
            total=ratio(*totals, n=int(has.sum()), unit=""),
            counted="subjects",
            per_subject=_by_subject(records, each),
            per_organ={
                organ: ratio(sums[0][:, n], sums[1][:, n], n=int(known[:, n].sum()), unit="")
                for n, organ in enumerate(ORGANS)
                if known[:, n].any()
            },
            settings=self.settings,
            notes=notes,
            curve=_curve(real, synthetic) if known.any() else None,
        )
        return replace(found, variants={"frequency": self._frequencies(found, real, synthetic)})

    def against(self, real: Mapping[str, Arrays], others: Sequence[Arrays]) -> Result:
        """The others' mean noise, frequency and spectrum of each organ."""
        typical = {name: _mean([other[name] for other in others]) for name in ("deviation", "frequency", "power")}
        return self.result(joined(real, (typical for _ in real)))

    def _frequencies(self, found: Result, real: Mapping[str, Arrays], synthetic: Mapping[str, Arrays]) -> Result:
        below, above = (np.array([r["frequency"] for r in part.values()]) for part in (real, synthetic))
        off = above - below
        known = np.isfinite(off)
        sums, counts = np.where(known, off, 0).sum(axis=1), known.sum(axis=1).astype(np.float64)
        total = ratio(sums, counts, n=int((counts > 0).sum()), unit="lp/cm")
        each = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        is_off = total.value is not None and abs(total.value) > MOST_OFF
        side = "coarser" if is_off and (total.value or 0) < 0 else "finer"
        return replace(
            found,
            title="Noise frequency",
            total=total,
            digits=2,
            per_subject=_by_subject(real, each),
            per_organ={
                organ: _organ(below[:, n], above[:, n], off[:, n])
                for n, organ in enumerate(ORGANS)
                if known[:, n].any()
            },
            notes=(f"the grain is {side} than the real one by more than {MOST_OFF} lp/cm",) if is_off else (),
            curve=None,
        )


def _organ(below: Array, above: Array, off: Array) -> Value:
    has = np.isfinite(off)
    value = ratio(np.where(has, off, 0), has.astype(np.float64), n=int(has.sum()), unit="lp/cm")
    return replace(value, parts={"real": float(below[has].mean()), "synthetic": float(above[has].mean())})


def _curve(real: Mapping[str, Arrays], synthetic: Mapping[str, Arrays]) -> Curve:
    """The mean spectra of subjects and organs, at the mean of the subjects' frequencies."""
    lines = {
        kind: _mean([record["power"] for record in part.values()], axis=(0, 1)).tolist()
        for kind, part in (("real", real), ("synthetic", synthetic))
    }
    x = np.mean([record["lp_cm"] for record in real.values()], axis=0).tolist()
    return Curve(x=x, x_title="frequency (lp/cm); power (HU² mm²)", lines=lines)


def _mean(rows: Sequence[Array], axis: int | tuple[int, int] = 0) -> Array:
    """The mean of what is known; NaN where nothing is."""
    values = np.array(rows)
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _by_subject(records: Mapping[str, Arrays], values: Array) -> dict[str, float | None]:
    return {name: float(v) if np.isfinite(v) else None for name, v in zip(records, values, strict=True)}
