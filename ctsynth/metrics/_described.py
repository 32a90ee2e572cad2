"""Metrics that describe each volume by itself, and compare the descriptions of synthetic and real ones."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from ctsynth.data.slices import stacked_geometry
from ctsynth.data.store import Store, Subject
from ctsynth.files import code_digest
from ctsynth.metrics.base import Arrays, Context, Metric, Pair, Record, Unit
from ctsynth.scoring.records import StoreRecords
from ctsynth.scoring.result import Result

FOLDER = "features"
"""Folder of the store that keeps what was measured of its real slices."""

_REAL, _SYNTHETIC = "real_", "synthetic_"


class DescribingMetric(Metric):
    """A metric of what ``describe`` says of a volume; that of real volumes is kept in the store.

    Args:
        store: The real slices; without one nothing is kept, and there is no floor.
        split: Whose subjects are scored; the floor takes those of the other one.
    """

    code: ClassVar[tuple[str, ...]] = ()
    """Files and folders of ctsynth, beside the metric's own, that a description depends on."""

    def __init__(self, store: Store | None = None, split: str = "") -> None:
        self._store, self._split = store, split

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The metric for the store's slices."""
        return cls.available() or cls(context.store, context.split)

    @abstractmethod
    def describe(self, values: Unit, pair: Pair) -> Record:
        """What is to be known of a volume.

        Args:
            values: (Z, H, W) in [0, 1]; the pair's real or synthetic slices.
            pair: Their labels, window and geometry.
        """

    @abstractmethod
    def against(self, real: Mapping[str, Arrays], others: Sequence[Arrays]) -> Result | None:
        """The score of real volumes of other subjects in the synthetic ones' place, which is the floor.

        Args:
            real: The descriptions of the scored subjects' real volumes, by subject.
            others: Those of real volumes of the other split, at least one.
        """

    def measure(self, pair: Pair) -> Record:
        """Both descriptions."""
        real = self._of_real(pair)
        synthetic = self.describe(pair.synthetic, pair)
        return {_REAL + name: values for name, values in real.items()} | {
            _SYNTHETIC + name: values for name, values in synthetic.items()
        }

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """See ``against``; None where the store has no slices of the other split."""
        if self._store is None:
            return None
        others = self._store.subjects("test" if self._split == "train" else "train")
        return self.against(of_real(records), [self._of(subject) for subject in others]) if others else None

    def ahead(self, subjects: Sequence[Subject]) -> None:
        """Describes real volumes, so that they are in the store."""
        for subject in subjects:
            self._of(subject)

    def _of_real(self, pair: Pair) -> Record:
        subject = self._store.subjects_by_name.get(pair.subject) if self._store else None
        return self._of(subject, pair) if subject else self.describe(pair.real, pair)

    def _of(self, subject: Subject, pair: Pair | None = None) -> Arrays:
        assert self._store is not None
        store = self._store
        known = {
            "metric": type(self).__name__,
            "real": [subject.record[key] for key in ("ct_sha256", "mask_sha256", "geometry")],
            "window": [store.window.low, store.window.high, store.size],
            "labels": store.labels.as_json(),
            "settings": dict(self.settings),
            "code": code_digest("metrics", "data/window.py", "data/slices.py", *self.code),
        }

        def describe() -> Record:
            whose = pair or real_pair(subject, store)
            return self.describe(whose.real, whose)

        return self._kept.get(known, describe)

    @functools.cached_property
    def _kept(self) -> StoreRecords:
        assert self._store is not None
        return StoreRecords(self._store.root / FOLDER)


def real_pair(subject: Subject, store: Store) -> Pair:
    """A subject's real slices, in the synthetic ones' place as well."""
    real = store.window.normalize(subject.ct())
    geometry = stacked_geometry(subject.geometry, store.size)
    return Pair(subject.name, real, real, np.asarray(subject.mask()), store.labels, store.window, geometry)


def of_real(records: Mapping[str, Arrays]) -> Mapping[str, Arrays]:
    """The real volumes' descriptions, by subject; each is read when it is asked for."""
    return _Part(records, _REAL)


def of_synthetic(records: Mapping[str, Arrays]) -> Mapping[str, Arrays]:
    """The synthetic volumes' descriptions, likewise."""
    return _Part(records, _SYNTHETIC)


class _Part(Mapping[str, Arrays]):
    """One half of records."""

    def __init__(self, records: Mapping[str, Arrays], kind: str) -> None:
        self._records, self._kind = records, kind

    def __getitem__(self, subject: str) -> Arrays:
        record = self._records[subject]
        return {name.removeprefix(self._kind): record[name] for name in record if name.startswith(self._kind)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def joined(real: Mapping[str, Arrays], synthetic: Iterable[Record]) -> dict[str, Arrays]:
    """Records as ``measure`` makes them."""
    return {
        name: {_REAL + key: values for key, values in one.items()}
        | {_SYNTHETIC + key: np.asarray(values) for key, values in other.items()}
        for (name, one), other in zip(real.items(), synthetic, strict=True)
    }
