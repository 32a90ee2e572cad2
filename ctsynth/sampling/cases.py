"""Volumes to draw: the subjects of a store, or label volumes, each with the file that its volume goes to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.formats import SUFFIXES, names_a_file, record_beside, renamed, stem, volumes
from ctsynth.data.masks import Unmatched, complete_labels
from ctsynth.data.relabel import Given, given_by_dataset
from ctsynth.data.slices import from_slices, stack, stacked_geometry, to_slices
from ctsynth.data.split_body import join_body, split_body
from ctsynth.data.store import Store, Subject
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.errors import DataError, UsageError
from ctsynth.files import sha256
from ctsynth.labels import BACKGROUND, LabelSet
from ctsynth.outputs import check_length
from ctsynth.sampling.given import GivenSlices, KnownSlices
from ctsynth.training.checkpoint import Trained

log = logging.getLogger(__name__)

Outside = Literal["window", "air"]

_DRAWN = re.compile(r"_synthetic(_\d+)?$")
_SUMMARY = re.compile(r"_(mean|std)$")


@dataclass(frozen=True, slots=True)
class Case:
    """A volume to draw.

    Args:
        name: Keys its noise.
        out: The NIfTI file to write.
        source: What its mask is read from, for the record.
        digest: SHA-256 of that, and of the CT that gives the body.
        inputs: The files that it is drawn from.
        labels: The label set that was named for it; None where none was.
        names: What a dataset.json says of its numbers, where they are not the model's own.
        unmatched: What voxels become whose class the model does not know; None refuses more than a few.
        tissues: Whether it may be drawn from tissues; if not, the body is one class.
        read: Gives the masks to draw from.
        given: Real slices to draw around.
        finish: Turns (Z, size, size) int16 HU into (X, Y, Z) RAS+ voxels of that geometry.
        outside: What voxels become whose class is background: what is drawn there, or air.
        sample: Which of several from one mask.
    """

    name: str
    out: Path
    source: str
    digest: str
    read: Callable[[], Masks]
    finish: Callable[[NDArray[np.int16], Geometry], NDArray[Any]]
    inputs: tuple[Path, ...]
    labels: str | None = None
    names: dict[str, int] | None = None
    unmatched: Unmatched | None = None
    tissues: bool = True
    outside: Outside = "window"
    sample: int = 0
    given: GivenSlices | None = None


class Masks(NamedTuple):
    """The label slices that a volume is drawn from.

    Args:
        slices: (Z, size, size) uint8 of the model's label set.
        geometry: Grid of the volume to write.
        body: Where the body came from: ``label``, ``ct`` or ``estimated``.
        tissues: Where the tissues came from: ``label``, ``ct`` or ``none``, which leaves the body one class.
        background: (X, Y, Z) bool, RAS+: where the patient is not, on the grid of the volume to write.
        known: Slices that are there already.
    """

    slices: NDArray[np.uint8]
    geometry: Geometry
    body: str
    tissues: str
    background: NDArray[np.bool_]
    known: KnownSlices | None = None


def cases_of_store(
    store: Store, split: str, trained: Trained, out: Path, *, tissues: bool = True, suffix: str = SUFFIXES[0]
) -> list[Case]:
    """The subjects of a store, each on the grid of its re-stacked slices (see ``stacked_geometry``).

    Args:
        store: The masks.
        split: ``train`` or ``test``.
        trained: The model.
        out: A folder.
        tissues: Draw from the store's tissues, if it has any; if not, the body is one class.
        suffix: Suffix of the files.

    Raises:
        DataError: The store has another label set or another slice size than the model, or no such subjects.
    """
    if store.labels != trained.labels:
        raise DataError(f"{store.root}: labels are {store.labels.name}, the model knows {trained.labels.name}")
    if store.size != trained.config.size:
        raise DataError(f"{store.root}: slices of {store.size} pixels, the model draws {trained.config.size}")

    subjects = store.subjects(split)
    if not subjects:
        raise DataError(
            f"{store.root}: no {split} subjects",
            hint="draw the others with --split, or choose test subjects:"
            " ctsynth preprocess --test-fraction or --split",
        )
    if names_a_file(out):
        raise UsageError(f"--out {out}: name a folder; it gets a volume for each subject of {store.root}")

    def case(subject: Subject) -> Case:
        def read() -> Masks:
            slices, told = _told(np.asarray(subject.mask()), store.labels, tissues)
            geometry = stacked_geometry(subject.geometry, store.size)
            return Masks(slices, geometry, "label", told, stack(slices == BACKGROUND))

        digest = str(subject.record["mask_sha256"])
        source = subject.folder / "mask.npy"
        target = out / f"{subject.name}{suffix}"
        return Case(
            subject.name, target, str(source), digest, read, lambda hu, _: stack(hu), (source,), tissues=tissues
        )

    return [case(subject) for subject in subjects]


@dataclass(frozen=True, kw_only=True, slots=True)
class _MaskReader:
    """Reads a label volume and brings it to the model's label set and slices; arguments as of ``cases_of_masks``.

    Args:
        file: The label volume.
        out: The volume that will be written.
        dataset: What a dataset.json says of its numbers.
        problem: Why it cannot be read; empty if it can.
    """

    file: Path
    out: Path
    trained: Trained
    labels: str | None
    dataset: Given | None
    body_from: Path | None
    unmatched: Unmatched | None
    tissues: bool
    given: GivenSlices | None
    problem: str

    def __call__(self) -> Masks:
        if self.problem:
            raise DataError(self.problem)
        own = self.trained.labels
        check_length(self.out, str(self.file))
        volume = Volume.load(self.file, self.body_from)
        known, body, ct = complete_labels(
            self.file,
            volume,
            own,
            labels=self.labels,
            dataset=self.dataset,
            body_from=self.body_from,
            unmatched=self.unmatched,
        )
        slices, background = to_slices(known, self.trained.config.size, "labels"), known == BACKGROUND
        window = Window(self.trained.config.level, self.trained.config.width)
        there = self.given.read(volume.geometry, self.trained.config.size, window) if self.given else None
        if ct is not None and own.tissues and self.tissues:
            slices = split_body(slices, ct.voxels, ct.geometry.spacing, own)
            return Masks(slices, volume.geometry, body, "ct", background, there)
        slices, told = _told(slices, own, self.tissues)
        if own.tissues and told == "none":
            log.warning("%s: drawn from the body as one class (tissues: --body-from CT)", self.file)
        return Masks(slices, volume.geometry, body, told, background, there)


def cases_of_masks(
    mask: Path,
    trained: Trained,
    out: Path | None,
    *,
    labels: str | None = None,
    body_from: Path | None = None,
    unmatched: Unmatched | None = None,
    tissues: bool = True,
    suffix: str = SUFFIXES[0],
    given: GivenSlices | None = None,
) -> list[Case]:
    """A label volume, or those of a folder, each on its own grid.

    Args:
        mask: A file in any of the formats, or a folder of them.
        trained: The model.
        out: A folder, or a file for a single mask; None writes NAME_synthetic.nii.gz beside each mask.
        labels: The label set of the masks; None finds it out.
        body_from: A CT on the same grid, from which the body is taken and, for a model of tissues, its tissues.
        unmatched: What voxels become whose class the model does not know; None refuses more than a few.
        tissues: Draw from the tissues of the masks or the CT; if not, the body is one class.
        suffix: Suffix of files that are not named.
        given: Slices of a CT on the mask's grid to draw around.

    Raises:
        UsageError: There are no masks, or one output or CT is named for several.
    """
    ct_given = given.file if given else None
    is_single = out is not None and names_a_file(out)
    files = _mask_files(mask, [ct for ct in (body_from, ct_given) if ct], names_one=is_single)

    def case(file: Path) -> Case:
        if not file.is_file():
            raise DataError(f"{file}: no such file")
        name = stem(file)
        target = out if is_single and out else (out or file.parent) / f"{name}_synthetic{suffix}"
        problem, digest = "", ""
        try:
            digest = sha256(file) + (f"+{sha256(body_from)}" if body_from else "")
        except OSError as error:  # raised when it is read, because other masks can be drawn
            problem = f"{file}: cannot read it: {error.strerror}"
        dataset = None if labels else given_by_dataset(file.parent)

        read = _MaskReader(
            file=file, out=target, trained=trained, labels=labels, dataset=dataset, body_from=body_from,
            unmatched=unmatched, tissues=tissues, given=given, problem=problem,
        )  # fmt: skip

        def finish(hu: NDArray[np.int16], geometry: Geometry) -> NDArray[Any]:
            return from_slices(hu, geometry, "ct")

        return Case(
            name,
            target,
            str(file),
            digest,
            read,
            finish,
            tuple(path for path in (file, body_from, Path(labels) if labels else None, ct_given) if path),
            labels,
            dataset.as_json() if dataset and not trained.labels.numbers_like(dataset.names) else None,
            unmatched,
            tissues,
            given=given,
        )

    cases = [case(file) for file in files]
    if len({case.out for case in cases}) < len(cases):
        raise UsageError(f"{mask}: two masks with the same name would write the same volume")
    return cases


def _mask_files(mask: Path, cts: list[Path], *, names_one: bool) -> list[Path]:
    """The label volumes to draw; an output file or a CT can only be given for a single one."""
    found = volumes(mask) if mask.is_dir() else [mask]
    files = [file for file in found if file == mask or not _is_drawn(file)]
    if not files:
        raise UsageError(f"{mask}: no label volumes in this folder")
    for ct in cts:
        if not ct.exists():
            raise DataError(f"{ct}: no such file")
    if len(files) > 1 and (names_one or cts):
        raise UsageError(
            f"{mask} holds {len(files)} masks: name a folder for --out, and no --body-from and no --given"
        )
    return files


def samples_of(case: Case, count: int) -> list[Case]:
    """Several volumes of one mask, NAME_synthetic_0 and on, each with its own seed."""
    name = stem(case.out).removesuffix("_synthetic")
    return [
        replace(case, out=renamed(case.out, f"{name}_synthetic_{sample}"), sample=sample)
        for sample in range(count)
    ]


def _is_drawn(file: Path) -> bool:
    """Whether a file beside masks is what was drawn from one."""
    name = stem(file)
    return bool(_DRAWN.search(name)) or (bool(_SUMMARY.search(name)) and record_beside(file).is_file())


def _told(slices: NDArray[np.uint8], labels: LabelSet, tissues: bool) -> tuple[NDArray[np.uint8], str]:
    """The slices, their tissues joined to the body if so wanted, and what ``Masks.tissues`` says of them."""
    if labels.tissues and not tissues:
        slices = join_body(slices, labels)
    return slices, "label" if (slices > labels.body_id).any() else "none"
