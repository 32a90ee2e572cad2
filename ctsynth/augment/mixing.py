"""What a segmenter of an arm is trained on: a view of a store, and which slices of it a batch has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ctsynth.data.loader import SliceDataset, shuffled
from ctsynth.data.store import Store, Subject
from ctsynth.errors import DataError


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The subjects that a segmenter sees.

    Args:
        real: Real ones.
        others: In place of each real one, by its name: as many slices, one for one.
        further: Ones that stand in no relation to the real ones.
        is_mixed: Half of every batch is real; if not, none is.
    """

    real: tuple[Subject, ...]
    others: Mapping[str, Sequence[Subject]] = field(default_factory=dict)
    further: tuple[Subject, ...] = ()
    is_mixed: bool = True

    @property
    def subjects(self) -> list[Subject]:
        """All that a segmenter sees."""
        others = [subject for several in self.others.values() for subject in several]
        return list(dict.fromkeys([*(self.real if self.is_mixed else ()), *others, *self.further]))

    def view(self, store: Store) -> Store:
        """The store with these subjects to train on, and no others.

        Raises:
            DataError: One of them is a test subject of the store.
        """
        return view_of(store, self.subjects)

    def dataset(self, store: Store) -> SliceDataset:
        """Its slices, in the order in which they are trained on."""
        view = self.view(store)
        return MixedSlices(view, self) if self.others or self.further else SliceDataset(view, "train")


def view_of(store: Store, subjects: Sequence[Subject]) -> Store:
    """A store with these subjects to train on, and no others.

    Raises:
        DataError: One of them is a test subject of the store.
    """
    tests = {subject.record["ct_sha256"]: subject.name for subject in store.subjects("test")}
    for subject in subjects:
        if subject.split == "test" or subject.record["ct_sha256"] in tests:
            raise DataError(f"{store.root}: {subject.name} is a test subject: nothing may be trained on it")
    return replace(store, subjects_by_name={subject.name: subject for subject in subjects})


class MixedSlices(SliceDataset):
    """Slices of which every second one is replaced by another's, or all.

    The order is that of the real slices. At odd places comes, in place of a real slice, the same slice of one of
    the others that belong to its subject, a different one each time, or the next of the further subjects' slices.
    So arms differ in nothing but what stands there, and where the others are the real subjects themselves,
    nothing differs.

    Args:
        view: ``TrainingSet.view``.
        content: What it is of.
    """

    def __init__(self, view: Store, content: TrainingSet) -> None:
        super().__init__(view, "train")
        self._is_mixed = content.is_mixed
        firsts = {subject.name: int(first) for subject, first in zip(self.subjects, self.starts, strict=False)}
        self._real: list[int] = []
        self._others: list[list[int]] = []
        for subject in sorted(content.real, key=lambda subject: subject.name):
            places = range(subject.slices)
            self._real += [firsts.get(subject.name, -1) + place for place in places]
            beside = [firsts[other.name] for other in content.others.get(subject.name, ())]
            self._others += [[first + place for first in beside] for place in places]
        self._further = [
            firsts[subject.name] + place for subject in content.further for place in range(subject.slices)
        ]

    def order(self, seed: int, start: int, count: int) -> list[int]:
        """Entries ``start`` to ``start + count`` of the order."""
        return [self._at(seed, position) for position in range(start, start + count)]

    def _at(self, seed: int, position: int) -> int:
        length = len(self._real)
        (place,) = shuffled(length, seed, position, 1)
        if self._is_mixed and position % 2 == 0:
            return self._real[place]
        if self._further:
            return self._further[shuffled(len(self._further), seed, position // 2, 1)[0]]
        beside = self._others[place]
        return beside[(place + position // length) % len(beside)]
