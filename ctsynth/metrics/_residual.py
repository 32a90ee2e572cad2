"""Metrics of the residual HU - E[HU | labels], which is what a generator has to invent."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.store import Subject
from ctsynth.files import code_digest
from ctsynth.measures.expected import BLURS, RIDGE, ExpectedHU, Regression
from ctsynth.metrics._described import DescribingMetric
from ctsynth.metrics.base import Context, Pair, Record, Unit

log = logging.getLogger(__name__)

MOST_SLICES = 2000
"""Training slices that the regression is fitted to, evenly spaced in each subject."""


class ResidualMetric(DescribingMetric):
    """A metric of a volume's residual. E[HU | labels] is fitted once to the store's training slices."""

    code: ClassVar[tuple[str, ...]] = ("measures",)

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The metric, or why not: the store has no training slices."""
        if not any(context.store.subjects("train")):
            return "it needs training slices to fit E[HU | labels], and the store has none"
        return super().make(context)

    @abstractmethod
    def describe_residual(self, residual: NDArray[np.float32], pair: Pair) -> Record:
        """What is to be known of a volume's residual.

        Args:
            residual: (Z, H, W) HU, 0 outside the body.
            pair: Its labels and geometry.
        """

    def describe(self, values: Unit, pair: Pair) -> Record:
        """See ``describe_residual``."""
        residual = self._expected.residual(pair.window.denormalize(values), pair.mask)
        return self.describe_residual(residual, pair)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The regression, and the slices that it is fitted to."""
        slices = f"at most {MOST_SLICES} training slices"
        return {
            "residual": "HU within the window - E[HU | labels], in the body",
            "regression": f"one-hot labels, as they are and blurred by {BLURS} px, and position; ridge {RIDGE:g}",
            "fitted to": {"slices": slices, "digest": self._digest},
        }

    @functools.cached_property
    def _training(self) -> list[Subject]:
        return self._store.subjects("train") if self._store else []

    @functools.cached_property
    def _digest(self) -> str:
        hashes = [[one.name, one.record["ct_sha256"], one.record["mask_sha256"]] for one in self._training]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @functools.cached_property
    def _expected(self) -> ExpectedHU:
        store = self._store
        assert store is not None
        known = {
            "regression": [*BLURS, RIDGE, MOST_SLICES],
            "training": self._digest,
            "window": [store.window.low, store.window.high, store.size],
            "labels": store.labels.as_json(),
            "code": code_digest("measures/expected.py", "data/window.py"),
        }
        found = self._kept.get(known, self._fit)
        return ExpectedHU(found["of_labels"], found["of_position"])

    def _fit(self) -> Record:
        store = self._store
        assert store is not None
        total = sum(subject.slices for subject in self._training)
        log.info("E[HU | labels]: fitted to %d of %d training slices", min(total, MOST_SLICES), total)
        regression = Regression(store.labels.num_classes)
        for subject in self._training:
            share = max(1, min(subject.slices, subject.slices * MOST_SLICES // total))
            chosen = np.unique(np.linspace(0, subject.slices - 1, share).round().astype(int))
            regression.add(np.asarray(subject.ct()), np.asarray(subject.mask()), chosen.tolist())
        expected = regression.solve()
        return {"of_labels": expected.of_labels, "of_position": expected.of_position}
