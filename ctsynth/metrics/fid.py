"""Fréchet and kernel Inception distance between real and synthetic slices."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ctsynth.data.store import Subject
from ctsynth.features.frechet import BLOCKS, Stacked, frechet_distance, kernel_distance
from ctsynth.features.inception import DIMENSIONS
from ctsynth.metrics._inception import InceptionMetric, stacked
from ctsynth.metrics.base import Arrays, Pair, Record
from ctsynth.scoring.result import Result, Value

log = logging.getLogger(__name__)

_TELL_EVERY = 30.0  # seconds


class FID(InceptionMetric):
    """Fréchet distance of the features of pytorch-fid's TensorFlow Inception (Heusel et al. 2017).

    All synthetic slices against the real slices of the same subjects, as 8-bit gray. Nothing else is called FID.
    Beside it the kernel distance of the same features (KID, Bińkowski et al. 2018), which is unbiased for few
    slices too. The features of real slices are kept in the store, so each is computed once.
    """

    title = "FID"
    digits = 2
    higher_is_better = False
    rank = 1

    @property
    def key(self) -> str:
        """Its name in scores.json: ``fid``, or another where the weights are not those of FID."""
        return "fid" if self.is_fid else "fd_smoke"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Weights, features, slices, resizing, and the code of the network."""
        return self.network

    def measure(self, pair: Pair) -> Record:
        """The features of the ``real`` and the ``synthetic`` slices, (Z, 2048) each."""
        known = self._store.subjects_by_name.get(pair.subject) if self._store else None
        real = self.features_of(known) if known else self.net(pair.real)
        return {"real": real, "synthetic": self.net(pair.synthetic)}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The distance of the synthetic slices to the real ones, and KID as variant ``kid``."""
        return self._compare(stacked(records, "real"), stacked(records, "synthetic"))

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same of real slices: those of the other split against those that were scored.

        Returns:
            None if the store has no other slices.
        """
        others = self.others
        if not others:
            return None
        log.info("FID of real against real: features of %d slices", sum(subject.slices for subject in others))
        self.ahead(others)
        parts = [(subject.slices, functools.partial(self.features_of, subject)) for subject in others]
        return self._compare(stacked(records, "real"), Stacked(parts, DIMENSIONS))

    def ahead(self, subjects: Sequence[Subject]) -> None:
        """Computes the features of real slices that are not in the store's cache."""
        last = time.monotonic()
        for done, subject in enumerate(subjects, start=1):
            self.features_of(subject)
            if time.monotonic() - last > _TELL_EVERY:
                last = time.monotonic()
                log.info("features: %d/%d subjects", done, len(subjects))

    def _compare(self, real: Stacked, other: Stacked) -> Result:
        n = min(len(real), len(other))
        found = Result(
            title="FID" if self.is_fid else "FD, other weights",
            total=Value(value=frechet_distance(real, other) if n > 1 else None, n=n),
            digits=self.digits,
            higher_is_better=False,
            settings=self.settings,
            notes=tuple(self._notes(n)),
        )
        return replace(found, variants={"kid": self._kernel(real, other, found)})

    def _kernel(self, real: Stacked, other: Stacked, found: Result) -> Result:
        n = found.total.n
        mean, deviation, size = kernel_distance(real, other) if n > 3 else (None, 0.0, 0)
        note = f"mean over {BLOCKS} subsets of {size} slices each, whose standard deviation is {deviation:.2g}"
        return replace(
            found,
            title="KID" if self.is_fid else "KD, other weights",
            total=Value(value=mean, n=n, parts={"standard deviation": deviation}),
            digits=4,
            settings={**self.settings, "kernel": "(x.y / d + 1)^3", "subsets": BLOCKS, "subset_size": size},
            notes=(note,) if size else (),
        )

    def _notes(self, n: int) -> list[str]:
        notes = []
        if not self.is_fid:
            notes.append(f"its weights ({self.digest[:16]}...) are not those of FID: it compares to nothing else")
        if n <= DIMENSIONS:
            notes.append(
                f"of {n:,} slices, no more than its {DIMENSIONS:,} features: the covariance is rank deficient and "
                "the distance too large; compare it only between sets of as many slices, or see KID"
            )
        return notes
