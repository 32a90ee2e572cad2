"""How far a synthetic slice is from the real one on average, in HU, inside the patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ctsynth.metrics.base import Arrays, Metric, Pair, Record, slice_mean
from ctsynth.scoring.scores import Result


class MeanAbsoluteError(Metric):
    """Mean absolute error inside the body; the mean over slices."""

    title = "MAE in body"
    unit = "HU"
    digits = 1
    higher_is_better = False
    settings: ClassVar[dict[str, Any]] = {"region": "body", "values": "HU within the window"}

    def measure(self, pair: Pair) -> Record:
        """One value a slice; NaN, which is left out of every mean, for a slice without a patient."""
        error = np.abs(pair.synthetic - pair.real) * pair.window.width
        inside = zip(error, pair.body, strict=True)
        return {"mae": [float(of[body].mean()) if body.any() else float("nan") for of, body in inside]}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean over all slices, with its interval over subjects."""
        return slice_mean(self, records, "mae")
