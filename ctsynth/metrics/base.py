"""What a metric is: one file of this package that defines one subclass of ``Metric``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ctsynth import plugins
from ctsynth.data.store import Store, Subject
from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.labels import LabelSet
from ctsynth.scoring.records import Arrays as Arrays
from ctsynth.scoring.records import Record as Record
from ctsynth.scoring.scores import Result, Value
from ctsynth.segmentation.settings import Segmenting

PACKAGE = "ctsynth.metrics"

Array = NDArray[np.float64]
Unit = NDArray[np.floating[Any]]
"""Values in [0, 1]: the window's ends."""

RESAMPLES = 2000
"""Resamples of the bootstrap over subjects."""

SEED = 0
"""Bootstrap seed."""


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """A subject's real and synthetic slices.

    Args:
        subject: Its name.
        real: (Z, H, W) in [0, 1].
        synthetic: (Z, H, W) in [0, 1].
        mask: (Z, H, W) uint8 labels, body included.
        labels: The classes of the mask.
        window: What [0, 1] stands for in HU.
        geometry: Where the stacked slices lie, mm.
    """

    subject: str
    real: Unit
    synthetic: Unit
    mask: NDArray[np.uint8]
    labels: LabelSet
    window: Window
    geometry: Geometry

    @property
    def body_id(self) -> int:
        """The label of the body where no organ is."""
        return self.labels.body_id

    @property
    def body(self) -> NDArray[np.bool_]:
        """(Z, H, W): the patient, organs included."""
        inside: NDArray[np.bool_] = self.mask != 0
        return inside


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Context:
    """The scoring that a metric is made for.

    Args:
        store: The real slices.
        split: Whose subjects are scored.
        files: The synthetic volume of each of them.
        segmenting: What finds organs, for the metrics that need them.
        masks: Folder that keeps the masks of these volumes.
        overwrite: Make these masks again.
    """

    store: Store
    split: str
    files: Mapping[str, Path]
    segmenting: Segmenting
    masks: Path
    overwrite: bool = False


class Metric(ABC):
    """A number that says how close synthetic volumes are to the real ones.

    It measures each subject on its own, and then makes one result of all that was measured. That the records are
    kept, and that some were made in another process or on another day, is not its concern.

    Attributes:
        title: Its heading in tables.
        unit: Empty for a plain number.
        digits: Decimal places to show.
        higher_is_better: None where neither is, as with a ratio that should be 1.
        rank: Its place in tables, the lowest first; the paper's FID, PSNR, SSIM and DSC lead.
        parallel: Whether worker processes may measure it: it runs no network, and its class can be imported there.
    """

    title: ClassVar[str]
    unit: ClassVar[str] = ""
    digits: ClassVar[int] = 3
    higher_is_better: ClassVar[bool | None] = None
    rank: ClassVar[int] = 100
    parallel: ClassVar[bool] = False

    @classmethod
    def available(cls) -> str | None:
        """None if it can be computed here; else why not, and what would mend that."""
        return None

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The metric for one scoring, or the reason that it cannot be computed there."""
        return cls.available() or cls()

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that the number depends on, as JSON; stated beside it."""
        return {}

    @property
    def key(self) -> str:
        """Its name in scores.json where that is not its file's."""
        return ""

    @abstractmethod
    def measure(self, pair: Pair) -> Record:
        """What is to be known of a subject; the same pair gives the same record."""

    @abstractmethod
    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The number of the set.

        Args:
            records: What was measured, by subject, in the store's order.
        """

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same of real slices against other real ones; None where that says nothing."""
        return None

    def ceiling(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same for the real volumes in the synthetic ones' place; None where that says nothing."""
        return None

    def ahead(self, subjects: Sequence[Subject]) -> None:  # noqa: B027  most have no need of it
        """Precomputes what the floor needs of these real subjects, one shard's share of them."""

    def inputs(self, subject: str) -> Sequence[Path]:
        """Files that it reads of a subject beside the pair."""
        return ()


def slice_mean(
    metric: Metric, records: Mapping[str, Arrays], name: str, title: str = "", notes: Sequence[str] = ()
) -> Result:
    """The mean over the slices of a set, which is how the paper's PSNR and SSIM are read (Sec. 3).

    A slice whose value is not finite is left out of every mean, and stands as None in the list of slices.

    Args:
        metric: Whose result it is.
        records: By subject.
        name: Name of the entry that has a value for each slice.
        title: The column's heading; the metric's if empty.
        notes: What a reader of the number must know.
    """
    slices = {subject: _or_none(record[name]) for subject, record in records.items()}
    kept = {subject: [v for v in values if v is not None] for subject, values in slices.items()}
    sums = np.array([sum(values) for values in kept.values()], np.float64)
    counts = np.array([len(values) for values in kept.values()], np.float64)
    return Result(
        title=title or metric.title,
        total=ratio(sums, counts, n=int(counts.sum()), unit=metric.unit),
        digits=metric.digits,
        higher_is_better=metric.higher_is_better,
        per_subject={subject: float(np.mean(values)) if values else None for subject, values in kept.items()},
        per_slice=slices,
        settings=metric.settings,
        notes=tuple(notes),
    )


def _or_none(values: NDArray[Any]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def ratio(sums: Array, counts: Array, *, n: int, unit: str) -> Value:
    """The sum of ``sums`` over that of ``counts`` with its interval; a mean over slices is one.

    Args:
        sums: (subjects,).
        counts: (subjects,), none negative.
        n: How many things were averaged.
        unit: Unit of the ratio.
    """
    if not counts.sum() > 0:
        return Value(value=None, n=n, unit=unit)
    draws = resample(sums), resample(counts)
    low, high = interval(np.divide(*draws, out=np.full_like(draws[0], np.nan), where=draws[1] > 0), len(counts))
    return Value(value=float(sums.sum() / counts.sum()), low=low, high=high, n=n, unit=unit)


def resample(sums: Array) -> Array:
    """Bootstrap over subjects: the sum over as many of them, drawn with replacement, ``RESAMPLES`` times.

    Every call with as many subjects draws the same ones, so that sums of several quantities belong together.

    Args:
        sums: (subjects, ...).

    Returns:
        (RESAMPLES, ...).
    """
    subjects = len(sums)
    times = np.random.default_rng(SEED).multinomial(subjects, np.full(subjects, 1 / subjects), size=RESAMPLES)
    draws: Array = times @ sums
    return draws


def interval(draws: Array, subjects: int) -> tuple[float, float] | tuple[None, None]:
    """The 95 % percentile interval of bootstrapped values; none with fewer than two subjects.

    Args:
        draws: (RESAMPLES,); NaN where a resample had nothing to average, which is left out.
        subjects: How many were drawn from.
    """
    known = draws[np.isfinite(draws)]
    if subjects < 2 or not len(known):
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def metric_names() -> list[str]:
    """The metrics there are, by name."""
    return plugins.names(PACKAGE)


def find_metric(name: str) -> type[Metric]:
    """The class of a metric.

    Raises:
        UsageError: There is no such metric, or its file defines none.
    """
    return plugins.find(PACKAGE, name, Metric)  # type: ignore[type-abstract]
