"""What a study found: each arm at each fraction, and the two contrasts that it is about."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth import __version__
from ctsynth.augment.arms import BASELINE, HEADLINE
from ctsynth.augment.evaluate import ByOrgan
from ctsynth.augment.plan import Plan, Run
from ctsynth.augment.records import Record
from ctsynth.augment.statistics import Contrast, Saved, compare, holm, subjects_saved
from ctsynth.data.slices import stacked_geometry
from ctsynth.data.store import Store

SCHEMA = 1

SMALL_ML = 50.0
"""A small organ: its median volume in the training subjects is less."""

Scores = NDArray[np.float64]
"""(runs, subjects), points of 100; NaN where a subject has none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One arm at one fraction.

    Args:
        arm: Its name, with its dose.
        fraction: Of the training subjects.
        subjects: Real ones that it knows the labels of.
        runs: Draws times seeds.
        dice: Mean over organs, subjects and runs; ``nsd`` likewise.
        gain: Dice over the baseline's at this fraction; None for the baseline itself.
        small: Dice of the small organs; None where there is none. ``small_gain`` likewise.
        saved: Further real subjects that the gain is worth; None where the learning curve does not say.
        per_organ: Mean Dice and NSD of each organ.
    """

    arm: str
    fraction: float
    subjects: int
    runs: int
    dice: Contrast
    nsd: Contrast
    gain: Contrast | None
    nsd_gain: Contrast | None
    small: Contrast | None
    small_gain: Contrast | None
    saved: Saved | None
    per_organ: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the two contrasts at one fraction.

    Args:
        arms: The one and the other.
        fraction: Of the training subjects.
        subjects: Real ones.
        difference: Dice points.
        adjusted: Its p value, adjusted for the number of contrasts: both, at all fractions (Holm).
    """

    arms: tuple[str, str]
    fraction: float
    subjects: int
    difference: Contrast
    adjusted: float

    @property
    def verdict(self) -> str:
        """What it says, in a few words."""
        if math.isnan(self.difference.low):
            return "too few subjects"
        if self.adjusted <= 0.05:
            return "better" if self.difference.estimate > 0 else "worse"
        return "no effect" if self.difference.equivalent else "undecided"


@dataclass(frozen=True)
class Results:
    """What a study found.

    Args:
        store: Its subjects.
        plan: Its runs.
        records: Of every run.
        generator_hours: Of training the generators.
        copies: Percent of copies among synthetic slices, by cell and set.
    """

    store: Store
    plan: Plan
    records: Mapping[Run, Record]
    generator_hours: float = 0.0
    copies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @cached_property
    def small_organs(self) -> tuple[str, ...]:
        """The organs of less than ``SMALL_ML``."""
        volumes: dict[int, list[float]] = {}
        for subject in self.store.subjects("train"):
            voxel = float(np.prod(stacked_geometry(subject.geometry, self.store.size).spacing)) / 1000
            for number, count in subject.voxels.items():
                volumes.setdefault(number, []).append(count * voxel)
        return tuple(
            organ.name
            for organ in self.store.labels.classes
            if np.median(volumes.get(organ.id, [np.inf])) < SMALL_ML
        )

    @cached_property
    def rows(self) -> list[Row]:
        """Every arm at every fraction, fraction by fraction."""
        pairs = ((arm, fraction) for fraction in self.fractions for arm in self._arms)
        return [self._row(*pair) for pair in pairs if self._runs(*pair)]

    @cached_property
    def headlines(self) -> list[Headline]:
        """The two contrasts at the fractions that have both arms."""
        dose = self.plan.config.doses[0]
        pairs = [tuple(self._called(name, dose) for name in pair) for pair in HEADLINE]
        made = [
            (one, other, fraction, self._contrast(one, other, fraction, self._scores))
            for one, other in pairs
            for fraction in self.fractions
            if self._runs(one, fraction) and self._runs(other, fraction)
        ]
        adjusted = holm([contrast.p for *_, contrast in made])
        return [
            Headline((one, other), fraction, self._subjects(fraction), contrast, float(p))
            for (one, other, fraction, contrast), p in zip(made, adjusted, strict=True)
        ]

    @property
    def fractions(self) -> list[float]:
        """Rising."""
        return sorted({cell.fraction for cell in self.plan.cells})

    @cached_property
    def hours(self) -> dict[str, float]:
        """Hours of training: the generators', and the segmenters' by arm."""
        spent: dict[str, float] = {"generators": self.generator_hours}
        for run, record in self.records.items():
            arm = run.arm.called(run.dose)
            spent[arm] = spent.get(arm, 0) + record["seconds"] / 3600
        return spent

    def as_json(self) -> dict[str, Any]:
        """The content of augment.json."""
        runs = [
            {"folder": run.folder, "chosen": record["chosen"], "weights_sha256": record["weights_sha256"]}
            for run, record in self.records.items()
        ]
        content = {
            "schema": SCHEMA,
            "version": __version__,
            "store": {
                "digest": self.store.digest,
                "phantom": self.store.phantom,
                "labels": self.store.labels.name,
            },
            "test": [subject.name for subject in self.store.subjects("test")],
            "study": {
                **self.plan.config.as_json(),
                "draws": self.plan.config.draws,
                "seeds": self.plan.config.seeds,
                "doses": list(self.plan.config.doses),
            },
            "work": {
                key: value for key, value in next(iter(self.records.values()))["work"].items() if key != "seed"
            },
            "small_organs": list(self.small_organs),
            "left_out": list(self.plan.left_out),
            "rows": [asdict(row) for row in self.rows],
            "headlines": [asdict(one) | {"verdict": one.verdict} for one in self.headlines],
            "copies": dict(self.copies),
            "runs": runs,
            "hours": self.hours,
        }
        return _finite(content)

    @cached_property
    def _arms(self) -> list[str]:
        return list(dict.fromkeys(run.arm.called(run.dose) for run in self.plan.runs))

    def _called(self, name: str, dose: int) -> str:
        runs = (run for run in self.plan.runs if run.arm.name == name and run.dose in (1, dose))
        return next((run.arm.called(run.dose) for run in runs), name)

    def _runs(self, arm: str, fraction: float) -> list[Run]:
        return [run for run in self.plan.runs if run.arm.called(run.dose) == arm and run.cell.fraction == fraction]

    def _subjects(self, fraction: float) -> int:
        return next(cell.subjects for cell in self.plan.cells if cell.fraction == fraction)

    def _row(self, arm: str, fraction: float) -> Row:
        runs, has_small, is_baseline = self._runs(arm, fraction), bool(self.small_organs), arm == BASELINE
        dice = self._contrast(arm, None, fraction, self._scores)
        return Row(
            arm=arm,
            fraction=fraction,
            subjects=self._subjects(fraction),
            runs=len(runs),
            dice=dice,
            nsd=self._contrast(arm, None, fraction, self._surface),
            gain=None if is_baseline else self._contrast(arm, BASELINE, fraction, self._scores),
            nsd_gain=None if is_baseline else self._contrast(arm, BASELINE, fraction, self._surface),
            small=self._contrast(arm, None, fraction, self._small) if has_small else None,
            small_gain=None
            if is_baseline or not has_small
            else self._contrast(arm, BASELINE, fraction, self._small),
            saved=None if is_baseline else self._saved(fraction, dice.estimate),
            per_organ={
                organ: (self._mean_of_organ(runs, "dice", organ), self._mean_of_organ(runs, "nsd", organ))
                for organ in (one.name for one in self.store.labels.classes)
            },
        )

    def _saved(self, fraction: float, score: float) -> Saved | None:
        curve = [
            (self._subjects(f), float(np.nanmean(self._scores(self._runs(BASELINE, f))))) for f in self.fractions
        ]
        if len(curve) < 2 or not all(math.isfinite(value) for _, value in curve) or not math.isfinite(score):
            return None
        return subjects_saved(
            [n for n, _ in curve], [value for _, value in curve], self._subjects(fraction), score
        )

    def _contrast(
        self, arm: str, other: str | None, fraction: float, scores: Callable[[Sequence[Run]], Scores]
    ) -> Contrast:
        """An arm less another, or less nothing."""
        runs = self._runs(arm, fraction)
        a = scores(runs)
        b = scores(self._runs(other, fraction)) if other else np.zeros_like(a)
        return compare(a, b, [run.cell.draw for run in runs])

    def _scores(self, runs: Sequence[Run]) -> Scores:
        return self._means(runs, "dice", None)

    def _surface(self, runs: Sequence[Run]) -> Scores:
        return self._means(runs, "nsd", None)

    def _small(self, runs: Sequence[Run]) -> Scores:
        return self._means(runs, "dice", self.small_organs)

    def _means(self, runs: Sequence[Run], kind: str, organs: Sequence[str] | None) -> Scores:
        return np.array([[_mean(by_organ, organs) for by_organ in self._by_subject(run, kind)] for run in runs])

    def _by_subject(self, run: Run, kind: str) -> list[ByOrgan]:
        measured: Mapping[str, Mapping[str, ByOrgan]] = self.records[run]["measured"]  # type: ignore[assignment]
        return [measured[kind][subject.name] for subject in self.store.subjects("test")]

    def _mean_of_organ(self, runs: Sequence[Run], kind: str, organ: str) -> float:
        values = [by_organ[organ] for run in runs for by_organ in self._by_subject(run, kind)]
        there = [value for value in values if value is not None]
        return 100 * float(np.mean(there)) if there else math.nan


def _mean(by_organ: ByOrgan, organs: Sequence[str] | None) -> float:
    """Mean over the organs that there are, points of 100."""
    values = [
        value for name, value in by_organ.items() if value is not None and (organs is None or name in organs)
    ]
    return 100 * sum(values) / len(values) if values else math.nan


def _finite(content: Any) -> Any:  # noqa: ANN401  what json can hold
    """The content with null for what is not a finite number."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Saved):
        return {"subjects": _finite(content.subjects), "beyond": content.beyond}
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
