"""Whether a model has learned training slices by heart and draws them again."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.store import Subject
from ctsynth.files import code_digest
from ctsynth.measures.neighbors import SIDE, nearest, thumbnails
from ctsynth.metrics._described import DescribingMetric, joined, of_real, of_synthetic
from ctsynth.metrics.base import Array, Arrays, Context, Pair, Record, Unit, ratio
from ctsynth.scoring.result import Result

QUANTILE = 0.01
"""Quantile of the real slices' distances to the training slices; a nearer slice is a copy."""


class Copies(DescribingMetric):
    """Share of synthetic slices that are nearer to a training slice than 99 % of the real slices are.

    Distances are root mean square differences of slices reduced to 32 x 32; slices without a body are left out.
    Beside it the share of authentic slices (AuthPct, Alaa et al. 2022, Sec. 4): farther from the nearest training
    slice than this one is from the nearest slice of another training subject.
    """

    title = "Copies"
    unit = "%"
    digits = 1
    rank = 13
    code: ClassVar[tuple[str, ...]] = ("measures",)

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The metric, or why not: no training slices, or they are what is scored."""
        if context.split == "train":
            return "it compares with training slices; score the test split"
        if not context.store.subjects("train"):
            return "it needs training slices, and the store has none"
        return super().make(context)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The distance, the quantile, and the training slices."""
        return {
            "distance": f"root mean square difference of slices reduced to {SIDE} x {SIDE}, [0, 1]",
            "copy": f"nearer than the {100 * QUANTILE:g} % quantile of real slices",
            "training": self._digest,
        }

    def describe(self, values: Unit, pair: Pair) -> Record:
        """By slice, NaN without a body: ``distance`` to the nearest training slice, and the ``radius`` of that.

        And which it is: ``training``, its subject's place among the training subjects, and ``slice``.
        """
        shown = pair.mask.any(axis=(1, 2))
        distance, radius = np.full(len(values), np.nan), np.full(len(values), np.nan)
        which = np.full((2, len(values)), -1)
        if shown.any():
            distance[shown], place = nearest(thumbnails(values[shown]), self._training)
            distance[shown] /= 255
            radius[shown] = self._radii[place]
            starts = self._starts
            subject = np.searchsorted(starts, self._places[place], side="right") - 1
            which[:, shown] = subject, self._places[place] - starts[subject]
        return {"distance": distance, "radius": radius, "training": which[0], "slice": which[1]}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The share of the set and of each subject, the nearest slice, and as variant the authentic share."""
        real, synthetic = of_real(records), of_synthetic(records)
        distances = {name: synthetic[name]["distance"] for name in records}
        known = np.concatenate([record["distance"] for record in real.values()])
        threshold = float(np.nanquantile(known, QUANTILE)) if np.isfinite(known).any() else 0.0
        found = self._share(self.title, {name: d < threshold for name, d in distances.items()}, distances)
        notes = self._notes(synthetic, threshold) if found.total.value else ()
        if (slices := int(np.isfinite(known).sum())) < 1 / QUANTILE:
            few = f"with {slices} real slices the {100 * QUANTILE:g} % quantile is their smallest distance"
            notes += (f"{few}: the share says little",)
        radii = {name: synthetic[name]["radius"] for name in records}
        is_known = any(np.isfinite(radius).any() for radius in radii.values())
        authentic = {name: distances[name] > radii[name] for name in records} if is_known else {}
        variant = self._share("Authentic", authentic, radii)
        return replace(found, notes=notes, variants={"authentic": variant})

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same of the real slices themselves."""
        real = of_real(records)
        return self.result(joined(real, real.values()))

    def against(self, real: Mapping[str, Arrays], others: Sequence[Arrays]) -> Result | None:
        """Not asked for: the others are the training slices."""
        return None

    def _share(self, title: str, are: Mapping[str, NDArray[np.bool_]], values: Mapping[str, Array]) -> Result:
        sums = np.array([100.0 * is_one.sum() for is_one in are.values()])
        counts = np.array([float(np.isfinite(values[name]).sum()) for name in are])
        return Result(
            title=title,
            total=ratio(sums, counts, n=int(counts.sum()), unit=self.unit),
            digits=self.digits,
            per_subject={
                name: float(above / below) if below else None
                for name, above, below in zip(are, sums, counts, strict=True)
            },
            settings=self.settings,
        )

    def _notes(self, synthetic: Mapping[str, Arrays], threshold: float) -> tuple[str, ...]:
        name = min(synthetic, key=lambda one: float(np.nanmin(np.append(synthetic[one]["distance"], np.inf))))
        record = synthetic[name]
        z = int(np.nanargmin(record["distance"]))
        training = self._subjects[int(record["training"][z])].name
        nearest_one = f"slice {record['slice'][z] + 1} of training subject {training}"
        apart = f"{record['distance'][z]:.3g} apart, and 1 % of real slices are nearer than {threshold:.3g}"
        return (f"nearest: slice {z + 1} of {name} and {nearest_one}, {apart}",)

    @functools.cached_property
    def _subjects(self) -> list[Subject]:
        return self._store.subjects("train") if self._store else []

    @functools.cached_property
    def _digest(self) -> str:
        hashes = [[one.name, one.record["ct_sha256"], one.record["mask_sha256"]] for one in self._subjects]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @functools.cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The place of each training subject's first slice among those of all."""
        return np.cumsum([0, *(one.slices for one in self._subjects[:-1])])

    @functools.cached_property
    def _places(self) -> NDArray[np.int64]:
        """Which of all training slices show a body; 1 kB each is held of these."""
        return self._reduced[0]

    @functools.cached_property
    def _training(self) -> NDArray[np.uint8]:
        return self._reduced[1]

    @functools.cached_property
    def _reduced(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        store = self._store
        assert store is not None
        shown, small = [], []
        for subject in self._subjects:
            is_shown = np.array([plane.any() for plane in subject.mask()])
            shown.append(is_shown)
            small.append(thumbnails(store.window.normalize(subject.ct())[is_shown]))
        return np.flatnonzero(np.concatenate(shown)), np.concatenate(small)

    @functools.cached_property
    def _radii(self) -> Array:
        """The distance of each training slice with a body to the nearest one of another subject."""
        known = {
            "what": "radii of training slices",
            "training": self._digest,
            "window": [self._store.window.low, self._store.window.high] if self._store else [],
            "code": code_digest("measures/neighbors.py", "metrics/copies.py", "data/window.py"),
        }
        radii: Array = self._kept.get(known, lambda: {"radii": self._measure_radii()})["radii"]
        return radii

    def _measure_radii(self) -> Array:
        whose = np.searchsorted(self._starts, self._places, side="right") - 1
        found = np.full(len(whose), np.nan)
        for subject in np.unique(whose):
            own = whose == subject
            if not own.all():
                found[own] = nearest(self._training[own], self._training[~own])[0] / 255
        return found
