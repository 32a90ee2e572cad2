"""Peak signal-to-noise ratio, of the whole slice and inside the body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctsynth.metrics.base import Arrays, Metric, Pair, Record, slice_mean
from ctsynth.scoring.scores import Result


class PSNR(Metric):
    """-10 log10 of the mean squared error of a slice, values in [0, 1], averaged over slices.

    A slice equal to the real one, air against air, has no finite PSNR: it is left out of the mean and counted. The
    column of the body takes the error's mean over the pixels of the patient; slices without any are left out.
    """

    title = "PSNR"
    unit = "dB"
    digits = 2
    higher_is_better = True
    rank = 2
    parallel = True
    settings: ClassVar[dict[str, Any]] = {
        "values": "[0, 1]",
        "data_range": 1.0,
        "mean": "over slices",
        "identical slices": "left out, counted",
    }

    def measure(self, pair: Pair) -> Record:
        """PSNR of each slice, ``whole`` and in the ``body``: infinite where all is equal, NaN where nothing is."""
        values = []
        for real, synthetic, inside in zip(pair.real, pair.synthetic, pair.body, strict=True):
            squares = np.square(real.astype(np.float64) - synthetic)
            values.append((decibels(squares), decibels(squares[inside])))
        return {"whole": [whole for whole, _ in values], "body": [body for _, body in values]}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean over slices, and the same inside the body as variant ``body``."""
        body = slice_mean(self, records, "body", "PSNR in body", _notes(records, "body"))
        return replace(slice_mean(self, records, "whole", notes=_notes(records, "whole")), variants={"body": body})


def _notes(records: Mapping[str, Arrays], name: str) -> list[str]:
    values = [value for record in records.values() for value in record[name]]
    found = {"equal the real ones": sum(map(math.isinf, values)), "show no body": sum(map(math.isnan, values))}
    return [f"{n} of {len(values)} slices {what}: left out of the mean" for what, n in found.items() if n]


def decibels(squares: NDArray[np.floating[Any]]) -> float:
    """PSNR of squared errors of values in [0, 1], dB: infinite where all are 0, NaN where there are none."""
    if not squares.size:
        return math.nan
    mean = float(squares.mean())
    return -10 * math.log10(mean) if mean > 0 else math.inf
