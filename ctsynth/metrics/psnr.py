"""Peak signal-to-noise ratio, of the whole slice and inside the body."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctsynth.metrics.base import Metric, Pair, SliceMean
from ctsynth.scores import Result


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
    settings: ClassVar[dict[str, Any]] = {
        "values": "[0, 1]",
        "data_range": 1.0,
        "mean": "over slices",
        "identical slices": "left out, counted",
    }

    def __init__(self) -> None:
        self._whole, self._body = SliceMean(), SliceMean()
        self._values: list[tuple[float, float]] = []

    def add(self, pair: Pair) -> None:
        """Takes a subject in."""
        values = []
        for real, synthetic, inside in zip(pair.real, pair.synthetic, pair.body, strict=True):
            squares = np.square(real.astype(np.float64) - synthetic)
            values.append((decibels(squares), decibels(squares[inside])))
        self._whole.add(pair.subject, [whole for whole, _ in values])
        self._body.add(pair.subject, [body for _, body in values])
        self._values += values

    def result(self) -> Result:
        """The mean over slices, and the same inside the body as variant ``body``."""
        whole, body = ([pair[place] for pair in self._values] for place in (0, 1))
        variant = self._body.result(self, "PSNR in body", _notes(body))
        return replace(self._whole.result(self, self.title, _notes(whole)), variants={"body": variant})


def _notes(values: Sequence[float]) -> list[str]:
    found = {"equal the real ones": sum(map(math.isinf, values)), "show no body": sum(map(math.isnan, values))}
    return [f"{n} of {len(values)} slices {what}: left out of the mean" for what, n in found.items() if n]


def decibels(squares: NDArray[np.floating[Any]]) -> float:
    """PSNR of squared errors of values in [0, 1], dB: infinite where all are 0, NaN where there are none."""
    if not squares.size:
        return math.nan
    mean = float(squares.mean())
    return -10 * math.log10(mean) if mean > 0 else math.inf
