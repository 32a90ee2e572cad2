"""How much fine structure a synthetic slice has: too much is speckle, too little is blur; PSNR forgives both."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ctsynth.metrics.base import Metric, Pair, Unit, ratio
from ctsynth.scores import Result


class GradientRatio(Metric):
    """Sum of the absolute steps between neighbors along a row, synthetic over real; 1 is right."""

    title = "Gradient ratio"
    rank = 5
    settings: ClassVar[dict[str, Any]] = {
        "values": "[0, 1]",
        "gradient": "neighbor difference along rows",
        "ratio": "of sums over the set",
    }

    def __init__(self) -> None:
        self._sums: dict[str, tuple[list[float], list[float]]] = {}

    def add(self, pair: Pair) -> None:
        """Takes a subject in."""
        self._sums[pair.subject] = _steps(pair.synthetic), _steps(pair.real)

    def result(self) -> Result:
        """The ratio over the set, each subject and each slice; None where the real one is flat."""
        sums = np.array([[sum(part) for part in pair] for pair in self._sums.values()], np.float64).reshape(-1, 2)
        slices = {
            name: [above / below if below else None for above, below in zip(*pair, strict=True)]
            for name, pair in self._sums.items()
        }
        used = sum(value is not None for values in slices.values() for value in values)
        return Result(
            title=self.title,
            total=ratio(sums[:, 0], sums[:, 1], n=used, unit=""),
            digits=self.digits,
            per_subject={
                name: float(above / below) if below else None
                for name, (above, below) in zip(self._sums, sums, strict=True)
            },
            per_slice=slices,
            settings=self.settings,
        )


def _steps(slices: Unit) -> list[float]:
    return [float(np.abs(np.diff(unit, axis=1)).sum(dtype=np.float64)) for unit in slices]
