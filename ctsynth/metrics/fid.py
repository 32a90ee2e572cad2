"""Fréchet and kernel Inception distance between real and synthetic slices."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ctsynth import weights
from ctsynth.data.store import Store, Subject
from ctsynth.errors import DataError
from ctsynth.features.frechet import BLOCKS, Stacked, frechet_distance, kernel_distance
from ctsynth.features.inception import DIMENSIONS, Inception, absent
from ctsynth.files import code_digest
from ctsynth.metrics.base import Arrays, Context, Metric, Pair, Record
from ctsynth.scoring.records import StoreRecords
from ctsynth.scoring.scores import Result, Value

log = logging.getLogger(__name__)

OTHER_WEIGHTS = "CTSYNTH_FD_WEIGHTS"
"""Names a file of other weights for the same network, random ones for a test: the result is not called FID."""

CACHE = "features"
"""Folder of the store that keeps the features of its slices."""

_TELL_EVERY = 30.0  # seconds

Features = NDArray[np.float32]


class FID(Metric):
    """The TensorFlow-Inception one of pytorch-fid (Heusel et al. 2017), and nothing else is ever called FID.

    All synthetic slices against the real slices of the same subjects, as 8-bit gray. Beside it the kernel distance
    of the same features (KID, Binkowski et al. 2018), which fewer slices do not bias. The features of real slices
    are kept in the store, so each is computed once.

    Args:
        store: The real slices; without one nothing is kept, and there is no floor.
        split: Whose subjects are scored; the floor takes the other one.
    """

    title = "FID"
    digits = 2
    higher_is_better = False
    rank = 1

    def __init__(self, store: Store | None = None, split: str = "") -> None:
        self._store, self._split = store, split
        self._kept = StoreRecords(store.root / CACHE if store else Path(CACHE))

    @classmethod
    def available(cls) -> str | None:
        """Why not: pytorch-fid or its weights are missing, or the weights are not the published ones."""
        if reason := absent():
            return reason
        if other := _other_weights():
            return None if other.is_file() else f"${OTHER_WEIGHTS} is {other}: no such file"
        reason = weights.missing("inception")
        return f"{reason}; {weights.remedy('inception')}" if reason else None

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The distance to the real slices of the store, whose features are kept there."""
        return cls.available() or cls(context.store, context.split)

    @property
    def key(self) -> str:
        """Its name in scores.json: ``fid``, or another where the weights are not those of FID."""
        return "fid" if self._is_fid else "fd_smoke"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Weights, features, slices, resizing, and the code of the network."""
        return {
            "weights_sha256": self._digest,
            "features": f"{DIMENSIONS}, the last average pool's",
            "slices": "8-bit gray in three channels, the window's ends 0 and 255",
            "resize": "bilinear to 299 x 299",
            "code": {package: version(package) for package in ("pytorch-fid", "torch", "torchvision")},
        }

    def measure(self, pair: Pair) -> Record:
        """The features of the ``real`` and the ``synthetic`` slices, (Z, 2048) each."""
        known = self._store.subjects_by_name.get(pair.subject) if self._store else None
        real = self._of(known) if known else self._net(pair.real)
        return {"real": real, "synthetic": self._net(pair.synthetic)}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The distance of the synthetic slices to the real ones, and KID as variant ``kid``."""
        return self._compare(_stacked(records, "real"), _stacked(records, "synthetic"))

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same of real slices: those of the other split against those that were scored.

        Returns:
            None if the store has no other slices.
        """
        others = self._store.subjects("test" if self._split == "train" else "train") if self._store else []
        if not others:
            return None
        log.info("FID of real against real: features of %d slices", sum(subject.slices for subject in others))
        self.ahead(others)
        parts = [(subject.slices, functools.partial(self._of, subject)) for subject in others]
        return self._compare(_stacked(records, "real"), Stacked(parts, DIMENSIONS))

    def ahead(self, subjects: Sequence[Subject]) -> None:
        """Computes the features of real slices that are not in the store's cache."""
        last = time.monotonic()
        for done, subject in enumerate(subjects, start=1):
            self._of(subject)
            if time.monotonic() - last > _TELL_EVERY:
                last = time.monotonic()
                log.info("features: %d/%d subjects", done, len(subjects))

    def _compare(self, real: Stacked, other: Stacked) -> Result:
        n = min(len(real), len(other))
        found = Result(
            title="FID" if self._is_fid else "FD, other weights",
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
            title="KID" if self._is_fid else "KD, other weights",
            total=Value(value=mean, n=n, parts={"standard deviation": deviation}),
            digits=4,
            settings={**self.settings, "kernel": "(x.y / d + 1)^3", "subsets": BLOCKS, "subset_size": size},
            notes=(note,) if size else (),
        )

    def _notes(self, n: int) -> list[str]:
        notes = []
        if not self._is_fid:
            notes.append(f"its weights ({self._digest[:16]}...) are not those of FID: it compares to nothing else")
        if n <= DIMENSIONS:
            notes.append(
                f"of {n:,} slices, no more than its {DIMENSIONS:,} features: the covariance is rank deficient and "
                "the distance too large; compare it only between sets of as many slices, or see KID"
            )
        return notes

    def _of(self, subject: Subject) -> Features:
        """The features of a subject's real slices, from the store's cache if they are there."""
        assert self._store is not None
        window = self._store.window
        known = {"ct": subject.record["ct_sha256"], "window": [window.low, window.high], "weights": self._digest}
        known["code"] = code_digest("features/inception.py", "data/window.py")
        return self._kept.get(known, lambda: {"features": self._net(window.normalize(subject.ct()))})["features"]

    @functools.cached_property
    def _net(self) -> Inception:
        other = _other_weights()
        if other is None:
            return Inception(weights.load("inception"))
        try:
            return Inception(weights.read(other))
        except RuntimeError as error:
            raise DataError(f"${OTHER_WEIGHTS} is {other}: no weights of pytorch-fid's Inception") from error

    @functools.cached_property
    def _digest(self) -> str:
        other = _other_weights()
        return weights.digest_of(other) if other else weights.TABLE["inception"].sha256

    @property
    def _is_fid(self) -> bool:
        return self._digest == weights.TABLE["inception"].sha256


def _other_weights() -> Path | None:
    named = os.environ.get(OTHER_WEIGHTS)
    return Path(named) if named else None


def _stacked(records: Mapping[str, Arrays], name: str) -> Stacked:
    def reading(subject: str) -> Callable[[], Features]:
        return lambda: records[subject][name]

    return Stacked([(len(records[subject][name]), reading(subject)) for subject in records], DIMENSIONS)
