"""Dice of organs that a segmenter finds in the synthetic volumes: its place. This version does not compute it."""

from __future__ import annotations

from ctsynth.metrics.base import Metric, Pair
from ctsynth.scores import Result


class Dice(Metric):
    """Overlap of TotalSegmentator's organs in a synthetic volume with the label map that it was drawn for."""

    title = "DSC"
    unit = "%"
    digits = 1
    higher_is_better = True
    rank = 4

    @classmethod
    def available(cls) -> str | None:
        """Why not: it is not written yet."""
        return "this version of ctsynth does not compute it yet; run TotalSegmentator on the synthetic volumes"

    def add(self, pair: Pair) -> None:
        """Not written yet."""
        raise NotImplementedError

    def result(self) -> Result:
        """Not written yet."""
        raise NotImplementedError
