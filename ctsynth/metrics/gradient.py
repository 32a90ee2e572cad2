"""How much fine structure a synthetic slice has: too much is speckle, too little is blur; PSNR forgives both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ctsynth.metrics.base import Arrays, Metric, Pair, Record, Unit, ratio
from ctsynth.scoring.scores import Result


class GradientRatio(Metric):
    """Sum of the absolute steps between neighbors along a row, synthetic over real; 1 is right."""

    title = "Gradient ratio"
    rank = 5
    parallel = True
    settings: ClassVar[dict[str, Any]] = {
        "values": "[0, 1]",
        "gradient": "neighbor difference along rows",
        "ratio": "of sums over the set",
    }

    def measure(self, pair: Pair) -> Record:
        """The steps of each slice, ``synthetic`` and ``real``."""
        return {"synthetic": _steps(pair.synthetic), "real": _steps(pair.real)}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The ratio over the set, each subject and each slice; None where the real one is flat."""
        steps = {name: [record[of].tolist() for of in ("synthetic", "real")] for name, record in records.items()}
        sums = np.array([[sum(part) for part in pair] for pair in steps.values()], np.float64).reshape(-1, 2)
        slices = {
            name: [above / below if below else None for above, below in zip(*pair, strict=True)]
            for name, pair in steps.items()
        }
        used = sum(value is not None for values in slices.values() for value in values)
        return Result(
            title=self.title,
            total=ratio(sums[:, 0], sums[:, 1], n=used, unit=""),
            digits=self.digits,
            per_subject={
                name: float(above / below) if below else None
                for name, (above, below) in zip(steps, sums, strict=True)
            },
            per_slice=slices,
            settings=self.settings,
        )


def _steps(slices: Unit) -> list[float]:
    return [float(np.abs(np.diff(unit, axis=1)).sum(dtype=np.float64)) for unit in slices]
