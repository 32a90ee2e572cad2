"""How much changes from slice to slice: too much where slices are drawn apart, too little where z is blurred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ctsynth.measures.along_z import steps
from ctsynth.metrics._described import DescribingMetric, joined, of_real, of_synthetic
from ctsynth.metrics.base import Array, Arrays, Pair, Record, Unit, ratio
from ctsynth.scoring.result import Result


class ZGradient(DescribingMetric):
    """Sum of absolute differences between each voxel of the body and the one above, synthetic / real; 1 is ideal.

    Also given separately where the label stays the same from slice to slice, and where it changes.
    """

    title = "z-gradient"
    rank = 7
    parallel = True
    code: ClassVar[tuple[str, ...]] = ("measures",)
    settings: ClassVar[dict[str, Any]] = {
        "values": "[0, 1]",
        "gradient": "absolute step from slice to slice where both voxels are in the body",
        "ratio": "of sums over the set",
    }

    def describe(self, values: Unit, pair: Pair) -> Record:
        """``sums`` of the steps and their ``counts``, (2,) each: where the label stays, and where it changes."""
        sums, counts = steps(values, pair.mask)
        return {"sums": sums, "counts": counts}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The ratio over the set and of each subject, and as variants that where labels stay and change."""
        real, synthetic = (
            np.array([record["sums"] for record in of(records).values()]) for of in (of_real, of_synthetic)
        )
        both = self._ratio(self.title, list(records), real.sum(axis=1), synthetic.sum(axis=1))
        variants = {
            name: self._ratio(f"{self.title} {where}", list(records), real[:, kind], synthetic[:, kind])
            for kind, (name, where) in enumerate({"same": "in a label", "changed": "across labels"}.items())
        }
        return replace(both, variants=variants)

    def against(self, real: Mapping[str, Arrays], others: Sequence[Arrays]) -> Result:
        """Other subjects have other numbers of voxels, so their mean step is taken at each subject's number."""
        counts = np.sum([other["counts"] for other in others], axis=0)
        mean = np.sum([other["sums"] for other in others], axis=0) / np.maximum(counts, 1)
        return self.result(joined(real, ({"sums": mean * record["counts"]} for record in real.values())))

    def _ratio(self, title: str, subjects: Sequence[str], real: Array, synthetic: Array) -> Result:
        return Result(
            title=title,
            total=ratio(synthetic, real, n=int((real > 0).sum()), unit=""),
            digits=self.digits,
            counted="subjects",
            per_subject={
                name: float(above / below) if below else None
                for name, above, below in zip(subjects, synthetic, real, strict=True)
            },
            settings=self.settings,
        )
