"""How much slices flicker when one scrolls through them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.measures.along_z import COLUMN, FLICKER, flicker_power
from ctsynth.metrics._described import joined, of_real, of_synthetic
from ctsynth.metrics._residual import ResidualMetric
from ctsynth.metrics.base import Arrays, Pair, Record, ratio
from ctsynth.scoring.result import Result


class ZFlicker(ResidualMetric):
    """Power along z above 0.25 cycles per slice of what labels do not determine, synthetic / real; 0 dB is ideal.

    The power is that of the residual HU - E[HU | labels]. Slices drawn independently have more, a volume blurred
    along z has less.
    """

    title = "z-flicker"
    unit = "dB"
    digits = 2
    rank = 9

    @property
    def settings(self) -> Mapping[str, Any]:
        """The residual, and the spectrum."""
        spectrum = (
            f"Hann window on columns of up to {COLUMN} slices within the body, above {FLICKER} cycles a slice"
        )
        return {**super().settings, "spectrum": spectrum, "mean": "of dB over subjects"}

    def describe_residual(self, residual: NDArray[np.float32], pair: Pair) -> Record:
        """The ``power``, HU^2; NaN where no column is long enough."""
        return {"power": flicker_power(residual, pair.body)}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean over subjects of their ratios in dB."""
        real, synthetic = of_real(records), of_synthetic(records)
        found = {name: _decibels(synthetic[name], real[name]) for name in records}
        known = np.array([value or 0.0 for value in found.values()])
        counts = np.array([float(value is not None) for value in found.values()])
        short = int((counts == 0).sum())
        return Result(
            title=self.title,
            total=ratio(known, counts, n=int(counts.sum()), unit=self.unit),
            digits=self.digits,
            counted="subjects",
            per_subject=found,
            settings=self.settings,
            notes=(f"{short} of {len(found)} subjects have too few slices: left out of the mean",)
            if short
            else (),
        )

    def against(self, real: Mapping[str, Arrays], others: Sequence[Arrays]) -> Result:
        """The others' mean power, of their logarithms."""
        powers = np.array([float(other["power"]) for other in others])
        known = powers[np.isfinite(powers) & (powers > 0)]
        typical = float(np.exp(np.log(known).mean())) if len(known) else math.nan
        return self.result(joined(real, ({"power": typical} for _ in real)))


def _decibels(synthetic: Arrays, real: Arrays) -> float | None:
    above, below = float(synthetic["power"]), float(real["power"])
    return 10 * math.log10(above / below) if above > 0 and below > 0 else None
