"""Fréchet Inception distance: its place among the metrics. This version does not compute it."""

from __future__ import annotations

from ctsynth.metrics.base import Metric, Pair
from ctsynth.scores import Result


class FID(Metric):
    """The TensorFlow-Inception one of pytorch-fid (Heusel et al. 2017), and nothing else is ever called FID."""

    title = "FID"
    digits = 2
    higher_is_better = False
    rank = 1

    @classmethod
    def available(cls) -> str | None:
        """Why not: it is not written yet."""
        return "this version of ctsynth does not compute it yet; write the slices as 8-bit PNG and use pytorch-fid"

    def add(self, pair: Pair) -> None:
        """Not written yet."""
        raise NotImplementedError

    def result(self) -> Result:
        """Not written yet."""
        raise NotImplementedError
