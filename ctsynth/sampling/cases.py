"""Volumes to draw: the subjects of a store, or label volumes, each with the file that its volume goes to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.find_volumes import volumes
from ctsynth.data.formats import names_a_file, record_beside, renamed, stem
from ctsynth.data.masks import complete_labels
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
from ctsynth.sampling.settings import MaskSettings
from ctsynth.training.checkpoint import Trained

log = logging.getLogger(__name__)

PLAIN = MaskSettings()

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
        read: Gives the masks to draw from.
        finish: Turns (Z, size, size) int16 HU into (X, Y, Z) RAS+ voxels of that geometry.
        settings: How its mask is read, and what becomes of it.
        names: What a dataset.json says of its numbers, where they are not the model's own.
        given: Real slices to draw around.
        sample: Which of several from one mask.
    """

    name: str
    out: Path
    source: str
    digest: str
    inputs: tuple[Path, ...]
    read: Callable[[], Masks]
    finish: Callable[[NDArray[np.int16], Geometry], NDArray[Any]]
    settings: MaskSettings
    names: dict[str, int] | None = None
    given: GivenSlices | None = None
    sample: int = 0


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
    store: Store, split: str, trained: Trained, out: Path, settings: MaskSettings = PLAIN
) -> list[Case]:
    """The subjects of a store, each on the grid of its re-stacked slices (see ``stacked_geometry``).

    Args:
        store: The masks.
        split: ``train`` or ``test``.
        trained: The model.
        out: A folder.
        settings: Whether to draw from the store's tissues, and what to write.

    Raises:
        DataError: The store has another label set or another slice size than the model, or no such subjects.
    """
    if store.labels != trained.labels:
        raise DataError(
            f"{store.root}: its label set is {store.labels.name}, the model's is {trained.labels.name}",
            hint="name the store that the model was trained on, or another model",
        )
    if store.size != trained.config.size:
        raise DataError(
            f"{store.root}: its slices have {store.size} pixels a side, the model's {trained.config.size}",
            hint=f"make a store of that size: ctsynth preprocess --size {trained.config.size}",
        )

    subjects = store.subjects(split)
    if not subjects:
        raise DataError(
            f"{store.root}: no {split} subjects",
            hint="draw the others with `split`, or choose test subjects:"
            " ctsynth preprocess --test-fraction or --split",
        )
    if names_a_file(out):
        raise UsageError(f"`out` {out}: name a folder; it gets a volume for each subject of {store.root}")

    def case(subject: Subject) -> Case:
        def read() -> Masks:
            slices, origin = _with_tissues(np.asarray(subject.mask()), store.labels, settings)
            geometry = stacked_geometry(subject.geometry, store.size)
            return Masks(slices, geometry, "label", origin, stack(slices == BACKGROUND))

        source = subject.folder / "mask.npy"
        return Case(
            name=subject.name, out=out / f"{subject.name}.{settings.format}", source=str(source),
            digest=str(subject.record["mask_sha256"]), inputs=(source,), read=read,
            finish=lambda hu, _: stack(hu), settings=settings,
        )  # fmt: skip

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
    settings: MaskSettings
    dataset: Given | None
    given: GivenSlices | None
    problem: str

    def __call__(self) -> Masks:
        if self.problem:
            raise DataError(self.problem)
        own = self.trained.labels
        check_length(self.out, str(self.file))
        volume = Volume.load(self.file, self.settings.body_from)
        known, body, ct = complete_labels(
            self.file,
            volume,
            own,
            labels=self.settings.labels,
            dataset=self.dataset,
            body_from=self.settings.body_from,
            unmatched=self.settings.unmatched,
        )
        slices, background = to_slices(known, self.trained.config.size, "labels"), known == BACKGROUND
        window = Window(self.trained.config.level, self.trained.config.width)
        there = self.given.read(volume.geometry, self.trained.config.size, window) if self.given else None
        if ct is not None and own.tissues and self.settings.tissues:
            slices = split_body(slices, ct.voxels, ct.geometry.spacing, own)
            return Masks(slices, volume.geometry, body, "ct", background, there)
        slices, origin = _with_tissues(slices, own, self.settings)
        if own.tissues and origin == "none":
            log.warning(
                "%s has no tissues: drawn from the body as one class (for tissues: `body_from` CT)", self.file
            )
        return Masks(slices, volume.geometry, body, origin, background, there)


def cases_of_masks(
    mask: Path,
    trained: Trained,
    out: Path | None,
    settings: MaskSettings = PLAIN,
) -> list[Case]:
    """A label volume, or those of a folder, each on its own grid.

    Args:
        mask: A file in any of the formats, or a folder of them.
        trained: The model.
        out: A folder, or a file for a single mask; None writes NAME_synthetic.nii.gz beside each mask.
        settings: How the masks are read, and what to write.

    Raises:
        UsageError: There are no masks, or one output or CT is named for several.
    """
    is_single = out is not None and names_a_file(out)
    files = _mask_files(mask, settings, names_one=is_single)

    def target(file: Path) -> Path:
        return out if is_single and out else (out or file.parent) / f"{stem(file)}_synthetic.{settings.format}"

    cases = [_case_of(file, target(file), trained, settings) for file in files]
    if len({case.out for case in cases}) < len(cases):
        raise UsageError(f"{mask}: two masks with the same name would write the same volume")
    return cases


def _case_of(file: Path, out: Path, trained: Trained, settings: MaskSettings) -> Case:
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    problem, digest, ct = "", "", settings.body_from
    try:
        digest = sha256(file) + (f"+{sha256(ct)}" if ct else "")
    except OSError as error:  # raised when it is read, because other masks can be drawn
        problem = f"{file}: cannot read it: {error.strerror}"
    dataset = None if settings.labels else given_by_dataset(file.parent)
    given = (
        GivenSlices(settings.given, settings.given_slices) if settings.given and settings.given_slices else None
    )
    label_file = Path(settings.labels) if settings.labels else None
    return Case(
        name=stem(file),
        out=out,
        source=str(file),
        digest=digest,
        inputs=tuple(path for path in (file, ct, label_file, settings.given) if path),
        read=_MaskReader(
            file=file, out=out, trained=trained, settings=settings, dataset=dataset, given=given, problem=problem
        ),
        finish=partial(from_slices, kind="ct"),
        settings=settings,
        names=dataset.as_json() if dataset and not trained.labels.numbers_like(dataset.names) else None,
        given=given,
    )


def _mask_files(mask: Path, settings: MaskSettings, *, names_one: bool) -> list[Path]:
    """The label volumes to draw; an output file or a CT can only be given for a single one."""
    found = volumes(mask) if mask.is_dir() else [mask]
    files = [file for file in found if file == mask or not _is_drawn(file)]
    if not files:
        raise UsageError(f"{mask}: no label volumes in this folder", hint="wanted NAME.nii.gz, or another format")
    cts = [ct for ct in (settings.body_from, settings.given) if ct]
    for ct in cts:
        if not ct.exists():
            raise DataError(f"{ct}: no such file")
    if len(files) > 1 and (names_one or cts):
        raise UsageError(
            f"{mask} holds {len(files)} masks: name a folder for `out`, and no `body_from` and no `given`"
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


def _with_tissues(
    slices: NDArray[np.uint8], labels: LabelSet, settings: MaskSettings
) -> tuple[NDArray[np.uint8], str]:
    """The slices, their tissues joined to the body if so wanted, and what ``Masks.tissues`` says of them."""
    if labels.tissues and not settings.tissues:
        slices = join_body(slices, labels)
    return slices, "label" if (slices > labels.body_id).any() else "none"
