"""Metrics made for a store, and what they measure of pairs."""

from __future__ import annotations

from pathlib import Path

from ctsynth.data.store import Store
from ctsynth.metrics.base import Context, Metric, Pair
from ctsynth.scoring.measuring import measured
from ctsynth.segmentation.settings import Segmenting

DOCS = Path(__file__).parents[1] / "docs"

PLUGIN = (DOCS.parent / "examples" / "plugins" / "metrics" / "mae.py").read_text(encoding="utf-8")
"""The metric that the docs show."""


class MeasuredMetric:
    """A metric and what it has measured of pairs."""

    def __init__(self, metric: Metric, *pairs: Pair) -> None:
        self.metric = metric
        self.records = {pair.subject: measured(metric, pair) for pair in pairs}

    def result(self):
        return self.metric.result(self.records)

    def floor(self):
        return self.metric.floor(self.records)

    def ceiling(self):
        return self.metric.ceiling(self.records)


def make_metric(metric: type[Metric], store: Store, split: str = "test") -> Metric:
    """The metric for a store's split."""
    found = metric.make(
        Context(store=store, split=split, files={}, segmenting=Segmenting(), masks=store.root / "segmentations")
    )
    assert isinstance(found, Metric), found
    return found


def total(metric: Metric, pairs: list[Pair]) -> float | None:
    """The metric's number of a set."""
    return metric.result({pair.subject: measured(metric, pair) for pair in pairs}).total.value
