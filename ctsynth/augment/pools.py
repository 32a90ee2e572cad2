"""The subjects that stand beside the real ones of a cell, or in their place: made once, kept as in a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ctsynth.augment.arms import Others
from ctsynth.augment.plan import StudyConfig
from ctsynth.data.deform import DeformConfig, deformed_pair
from ctsynth.data.folders import is_whole
from ctsynth.data.manifest import SubjectRecord, read_subject
from ctsynth.data.slices import stack, stacked_geometry, unstack
from ctsynth.data.split_body import join_body
from ctsynth.data.store import Store, Subject, subject_of, write_subject
from ctsynth.errors import DataError, RunError
from ctsynth.labels import LabelSet
from ctsynth.sampling.batches import SamplingConfig, Slices, sample_batches
from ctsynth.training.checkpoint import Trained

STRENGTHS = (1.0, 0.5, 0.25)
"""Of the deformations that are tried, one after the other."""

Made = tuple[NDArray[np.int16], NDArray[np.uint8], dict[str, Any]]
"""(Z, size, size) HU within the window, and labels; and what its record shall say besides."""


class Copy(NamedTuple):
    """One that stands in the place of a real subject.

    Args:
        source: The real one.
        number: Which of several.
    """

    source: Subject
    number: int

    @property
    def name(self) -> str:
        """Its own name."""
        return f"{self.source.name}+{self.number}"


@dataclass
class Pools:
    """Makes what the arms of a cell need, and finds again what is whole.

    A set lies in ``folder/KIND``, in the form of a store. A subject that is whole by SHA-256 and was made with the
    same settings is kept.

    Args:
        folder: Of the cell.
        store: Of the real subjects.
        config: The study's settings.
        real: The cell's training subjects.
        generator: Gives the trained generator, and how it draws; called when it is needed.
    """

    folder: Path
    store: Store
    config: StudyConfig
    real: Sequence[Subject]
    generator: Callable[[], tuple[Trained, SamplingConfig]]

    def others(self, kind: Others, dose: int) -> dict[str, list[Subject]]:
        """The subjects in place of each real one, by its name.

        Args:
            kind: All but ``further``.
            dose: How many of each.
        """
        if kind == "copies":
            return {subject.name: [subject] * dose for subject in self.real}
        sources = [Copy(subject, number) for subject in self.real for number in range(dose)]
        makers = {
            "deformed": self._deformed,
            "synthetic": self._synthetic,
            "synthetic_deformed": self._synthetic_deformed,
            "class_means": self._class_means,
            "shuffled": self._shuffled,
        }
        made = dict(zip(sources, makers[kind](sources), strict=True))
        return {
            subject.name: [one for copy, one in made.items() if copy.source is subject] for subject in self.real
        }

    def _deformed(self, copies: Sequence[Copy]) -> list[Subject]:
        def make(missing: Sequence[Copy]) -> Iterator[Made]:
            for copy in missing:
                yield deformed_slices(copy.source, self.store.labels, self.config.seed, copy.number)

        return self._kept("deformed", copies, lambda copy: _hashes(copy.source), make)

    def _synthetic(self, copies: Sequence[Copy]) -> list[Subject]:
        return self._drawn("synthetic", copies, [copy.source for copy in copies])

    def _synthetic_deformed(self, copies: Sequence[Copy]) -> list[Subject]:
        return self._drawn("synthetic_deformed", copies, self._deformed(copies))

    def _drawn(self, kind: Others, copies: Sequence[Copy], masks: Sequence[Subject]) -> list[Subject]:
        trained, sampling = self.generator()
        of_copy = dict(zip(copies, masks, strict=True))

        def made_with(copy: Copy) -> dict[str, Any]:
            return {
                "mask_sha256": of_copy[copy].record["mask_sha256"],
                "weights_sha256": trained.digest,
                "sampler": sampling.sampler.name if sampling.sampler else None,
                "steps": sampling.sampler.steps if sampling.sampler else None,
                "device": sampling.device.type,
            }

        def make(missing: Sequence[Copy]) -> Iterator[Made]:
            volumes = (
                Slices(
                    copy.name,
                    np.asarray(of_copy[copy].mask()),
                    copy.source.geometry.spacing[2],
                    sample=copy.number,
                )
                for copy in missing
            )
            for volume in sample_batches(trained, volumes, sampling):
                yield volume.hu, volume.masks, {}

        return self._kept(kind, copies, made_with, make)

    def _class_means(self, copies: Sequence[Copy]) -> list[Subject]:
        def make(missing: Sequence[Copy]) -> Iterator[Made]:
            means, deviations = class_statistics(self.real, self.store.labels.num_classes)
            window = self.store.window
            for copy in missing:
                mask = np.asarray(copy.source.mask())
                rng = np.random.default_rng([self.config.seed, crc32(copy.name.encode())])
                hu = means[mask] + deviations[mask] * rng.standard_normal(mask.shape)
                yield np.rint(np.clip(hu, window.low, window.high)).astype(np.int16), mask, {}

        hashes = {subject.name: subject.record["ct_sha256"] for subject in self.real}
        return self._kept("class_means", copies, lambda copy: {"of": hashes}, make)

    def _shuffled(self, copies: Sequence[Copy]) -> list[Subject]:
        def partner(copy: Copy) -> Subject:
            place = self.real.index(copy.source) + 1 + copy.number % (len(self.real) - 1)
            return self.real[place % len(self.real)]

        def make(missing: Sequence[Copy]) -> Iterator[Made]:
            for copy in missing:
                other = partner(copy)
                nearest = (2 * np.arange(copy.source.slices) + 1) * other.slices // (2 * copy.source.slices)
                yield np.asarray(copy.source.ct()), np.asarray(other.mask())[nearest], {}

        return self._kept(
            "shuffled", copies, lambda copy: _hashes(copy.source) | {"labels_of": partner(copy).name}, make
        )

    def _kept(
        self,
        kind: Others,
        copies: Sequence[Copy],
        made_with: Callable[[Copy], dict[str, Any]],
        make: Callable[[Sequence[Copy]], Iterator[Made]],
    ) -> list[Subject]:
        """The subjects of a set; those that are missing, damaged or made otherwise are made.

        Args:
            kind: Its name.
            copies: Which.
            made_with: What decides one.
            make: Makes some, in their order.
        """
        root = self.folder / kind
        own = {key: self.store.settings[key] for key in ("size", "level", "width", "labels")}
        settings = {
            copy: own | {"augment": {"kind": kind, "seed": self.config.seed} | made_with(copy)} for copy in copies
        }
        found = {copy: _whole(root, copy, settings[copy]) for copy in copies}
        missing = [copy for copy, subject in found.items() if subject is None]
        for copy, (ct, mask, more) in zip(missing, make(missing) if missing else (), strict=True):
            record = {"name": copy.name, "split": "train", "geometry": copy.source.geometry.as_json(), **more}
            found[copy] = _described(root, copy, write_subject(root, record, settings[copy], ct, mask))
        return [subject for subject in found.values() if subject is not None]


def _whole(root: Path, copy: Copy, settings: dict[str, Any]) -> Subject | None:
    """The subject in the place of a real one, if it is whole and was made with these settings."""
    found = read_subject(root, "train", copy.name)
    if not found or found[0] != settings or not is_whole(root, found[1]):
        return None
    with suppress(DataError):
        return _described(root, copy, found[1])
    return None


def _described(root: Path, copy: Copy, record: dict[str, Any]) -> Subject:
    """The subject of a record.

    Raises:
        DataError: The record is impossible, or of another grid than the real one's.
    """
    where = str(root / "train" / copy.name / "subject.json")
    if record["geometry"] != copy.source.geometry.as_json():
        raise DataError(f"{where}: its geometry is not that of {copy.source.name}")
    return subject_of(root, copy.source.size, copy.source.highest, cast("SubjectRecord", record), where)


def _hashes(subject: Subject) -> dict[str, Any]:
    return {key: subject.record[key] for key in ("ct_sha256", "mask_sha256")}


def class_statistics(subjects: Sequence[Subject], classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the HU of each class over all voxels of some subjects; 0 if it is in none."""
    counts, sums, squares = np.zeros((3, classes))
    for subject in subjects:
        for ct, mask in zip(subject.ct(), subject.mask(), strict=True):
            hu, labels = ct.ravel().astype(np.float64), mask.ravel()
            for total, weights in ((counts, None), (sums, hu), (squares, hu**2)):
                total += np.bincount(labels, weights, minlength=classes)
    present = np.maximum(counts, 1)
    means = sums / present
    return means, np.sqrt(np.maximum(squares / present - means**2, 0))


def deformed_slices(subject: Subject, labels: LabelSet, seed: int, number: int) -> Made:
    """A subject's slices and labels deformed by one plausible map; tissues become body.

    Where no map of full strength is plausible, as of a volume that cuts through organs, weaker ones are tried; the
    record says which it was.

    Raises:
        RunError: No map is plausible.
    """
    geometry = stacked_geometry(subject.geometry, subject.size)
    masks = np.asarray(subject.mask())
    pair = (stack(np.asarray(subject.ct())), stack(join_body(masks, labels) if labels.tissues else masks))
    for strength in STRENGTHS:
        config = DeformConfig(seed=seed, strength=strength)
        try:
            ct, mask, found = deformed_pair(*pair, geometry.spacing, labels.names, config, (subject.name, number))
        except RunError as error:
            problem = error
            continue
        more = {"deformation": {"strength": strength, **found}}
        return unstack(ct).astype(np.int16), unstack(mask).astype(np.uint8), more
    raise problem
