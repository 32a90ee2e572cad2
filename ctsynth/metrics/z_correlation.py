"""Whether what labels do not determine is correlated along z as far as in real volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.measures.along_z import LAGS, correlations
from ctsynth.metrics._described import joined, of_real, of_synthetic
from ctsynth.metrics._residual import ResidualMetric
from ctsynth.metrics.base import Array, Arrays, Pair, Record, ratio
from ctsynth.scoring.result import Curve, Result

FARTHEST = 60.0
"""mm; what is farther apart does not count."""


class ZCorrelation(ResidualMetric):
    """Error of the correlation along z, 1 to 8 slices apart, of what labels do not determine; mean absolute value.

    The correlation is that of the residual HU - E[HU | labels]. A subject's curve, Pearson's coefficient against
    mm, is compared with that of its real volume at distances up to 60 mm, and at least at the first distance.
    """

    title = "z-correlation error"
    higher_is_better = False
    rank = 8

    @property
    def settings(self) -> Mapping[str, Any]:
        """The residual, and the distances."""
        return {**super().settings, "lags": f"1 to {LAGS} slices, up to {FARTHEST:g} mm", "mean": "over subjects"}

    def describe_residual(self, residual: NDArray[np.float32], pair: Pair) -> Record:
        """The ``correlation`` at 1 to 8 slices, NaN where there are no such pairs, and these distances, ``mm``."""
        mm = pair.geometry.spacing[2] * np.arange(1, LAGS + 1)
        return {"correlation": correlations(residual, pair.body), "mm": mm}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean over subjects of the error, and the mean curves."""
        real, synthetic = of_real(records), of_synthetic(records)
        errors = {name: _error(real[name], synthetic[name]["correlation"]) for name in records}
        known = np.array([0.0 if error is None else error for error in errors.values()])
        counts = np.array([float(error is not None) for error in errors.values()])
        return Result(
            title=self.title,
            total=ratio(known, counts, n=int(counts.sum()), unit=""),
            digits=self.digits,
            higher_is_better=self.higher_is_better,
            counted="subjects",
            per_subject=errors,
            settings=self.settings,
            curve=Curve(
                x=_mean([record["mm"] for record in real.values()]),
                x_title="distance along z (mm)",
                lines={
                    kind: _mean([record["correlation"] for record in part.values()])
                    for kind, part in (("real", real), ("synthetic", synthetic))
                },
            ),
        )

    def against(self, real: Mapping[str, Arrays], others: Sequence[Arrays]) -> Result:
        """The mean curve of the others, at each subject's distances."""
        return self.result(joined(real, ({"correlation": _typical(others, one["mm"])} for one in real.values())))


def _error(real: Arrays, synthetic: Array) -> float | None:
    """Mean absolute difference at the distances that count; None where there are no pairs of slices."""
    near = real["mm"] <= FARTHEST
    near[0] = True
    differences = np.abs(synthetic - real["correlation"])[near]
    known = differences[np.isfinite(differences)]
    return float(known.mean()) if len(known) else None


def _typical(others: Sequence[Arrays], mm: Array) -> Array:
    """The mean of curves at distances in mm, straight between their points; NaN beyond all of them."""
    found = []
    for other in others:
        known = np.isfinite(other["correlation"])
        if known.any():
            x, y = np.append(0, other["mm"][known]), np.append(1, other["correlation"][known])
            found.append(np.interp(mm, x, y, right=np.nan))
    rows = np.array(found).reshape(-1, len(mm))
    counts = np.isfinite(rows).sum(axis=0)
    typical: Array = np.where(counts > 0, np.nansum(rows, axis=0) / np.maximum(counts, 1), np.nan)
    return typical


def _mean(rows: Sequence[NDArray[Any]]) -> list[float | None]:
    """The mean over subjects of each column; None where none has a value."""
    columns = np.array(rows, np.float64).T
    known = [column[np.isfinite(column)] for column in columns]
    return [float(values.mean()) if len(values) else None for values in known]
