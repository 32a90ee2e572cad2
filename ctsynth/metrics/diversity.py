"""Whether a model draws different volumes of one mask, or the same one again."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.formats import samples_beside
from ctsynth.data.restack import stacked_slices
from ctsynth.data.store import Store
from ctsynth.files import code_digest
from ctsynth.measures.neighbors import SIDE, thumbnails
from ctsynth.metrics._described import FOLDER, real_pair
from ctsynth.metrics.base import Array, Arrays, Context, Metric, Pair, Record, ratio
from ctsynth.scoring.records import StoreRecords
from ctsynth.scoring.result import Result

HEIGHTS = 64
"""Positions from the lowest slice to the highest, at which real slices are compared."""


class Diversity(Metric):
    """Distance of samples of one mask / distance of real slices of different subjects at the same height.

    0: all samples are the same volume; 1: as different as patients, which a mask does not allow. The distance is
    the root of the mean square difference, over all pairs of samples, of slices reduced to 32 x 32.
    """

    title = "Diversity"
    rank = 14

    def __init__(self, store: Store, files: Mapping[str, Path]) -> None:
        self._store, self._files = store, files

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The metric, or why not: one sample a mask, or too few training subjects."""
        if not any(len(samples_beside(path)) > 1 for path in context.files.values()):
            return "it needs several samples of each mask: ctsynth sample --samples 4"
        if len(context.store.subjects("train")) < 2:
            return "it needs two training subjects, and the store has fewer"
        return cls(context.store, context.files)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The distance, and the slices that it is compared with."""
        return {
            "distance": f"root mean square difference of slices reduced to {SIDE} x {SIDE}",
            "real": f"training slices at the nearest of {HEIGHTS} heights, {self._digest}",
        }

    def inputs(self, subject: str) -> Sequence[Path]:
        """The further samples."""
        return samples_beside(self._files[subject])[1:] if subject in self._files else ()

    def measure(self, pair: Pair) -> Record:
        """Sums over slices with a body of mean squared distances, and how many ``samples`` there are.

        ``between`` two samples, of two ``real`` training slices, and of the subject's ``own`` to training slices.
        """
        shown = pair.body.any(axis=(1, 2))
        subject = self._store.subjects_by_name[pair.subject]
        further = (stacked_slices(path, subject, self._store) for path in self.inputs(pair.subject))
        samples = [thumbnails(slices[shown]) for slices in (pair.synthetic, *further)]
        height = _heights(len(pair.mask))[shown]
        between = _pairwise(np.array(samples)).sum() if len(samples) > 1 else np.nan
        mean, squares = self._real["mean"][height], self._real["squares"][height]
        off = np.square(thumbnails(pair.real[shown]) - mean).mean(axis=1)
        own = off + squares / 2 * (1 - 1 / self._real["subjects"])  # to their mean, and theirs
        return {"between": between, "real": squares.sum(), "own": own.sum(), "samples": len(samples)}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The ratio of the set and of each subject."""
        several = {name: record for name, record in records.items() if record["samples"] > 1}
        lone = len(records) - len(several)
        counts = sorted({int(record["samples"]) for record in several.values()})
        notes = [f"{' and '.join(map(str, counts))} samples of each mask"] if counts else []
        notes += [f"{lone} of {len(records)} subjects have one sample: left out"] if lone else []
        return replace(self._ratio(several, "between"), notes=tuple(notes))

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same for the scored subjects' real slices and those of training subjects: about 1."""
        return self._ratio(records, "own")

    def _ratio(self, records: Mapping[str, Arrays], name: str) -> Result:
        above, below = (np.array([float(record[key]) for record in records.values()]) for key in (name, "real"))
        squared = ratio(above, below, n=len(records), unit="")
        value, low, high = (
            None if x is None else math.sqrt(x) for x in (squared.value, squared.low, squared.high)
        )
        return Result(
            title=self.title,
            total=replace(squared, value=value, low=low, high=high),
            counted="subjects",
            per_subject={
                key: math.sqrt(one / other) if other else None
                for key, one, other in zip(records, above, below, strict=True)
            },
            settings=self.settings,
        )

    @functools.cached_property
    def _digest(self) -> str:
        hashes = [one.record["ct_sha256"] for one in self._store.subjects("train")]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @functools.cached_property
    def _real(self) -> Arrays:
        """By height, the ``mean`` of training slices, and the mean squared distance of two, ``squares``."""
        window = self._store.window
        known = {
            "what": "training slices by height",
            "training": self._digest,
            "window": [window.low, window.high],
            "code": code_digest("metrics/diversity.py", "measures/neighbors.py", "data/window.py"),
        }
        return StoreRecords(self._store.root / FOLDER).get(known, self._measure_real)

    def _measure_real(self) -> Record:
        subjects = self._store.subjects("train")
        total: Array | float = 0.0
        squares: Array | float = 0.0
        for subject in subjects:
            small = thumbnails(real_pair(subject, self._store).real).astype(np.float64)
            rows = small[np.rint(np.linspace(0, len(small) - 1, HEIGHTS)).astype(int)]
            total, squares = total + rows, squares + np.square(rows)
        n = len(subjects)
        mean = np.asarray(total) / n
        variance = (np.asarray(squares) / n - np.square(mean)) * n / (n - 1)
        return {"mean": mean, "squares": 2 * variance.mean(axis=1), "subjects": n}


def _heights(slices: int) -> NDArray[np.int64]:
    """Which of ``HEIGHTS`` each slice of a volume is nearest to."""
    return np.rint(np.linspace(0, HEIGHTS - 1, slices)).astype(np.int64)


def _pairwise(samples: NDArray[Any]) -> Array:
    """(samples, slices, pixels) to the mean squared difference of two samples, (slices,)."""
    return np.asarray(2 * np.var(samples.astype(np.float64), axis=0, ddof=1).mean(axis=-1))
