"""From a checkpoint and label volumes to synthetic CT volumes in HU, on the label volumes' own grids."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth import __version__
from ctsynth.data.formats import names_a_file, record_beside, stem, volumes
from ctsynth.data.masks import Unmatched, complete_labels
from ctsynth.data.relabel import given_by_dataset
from ctsynth.data.slices import from_slices, stack, stacked_geometry, to_slices
from ctsynth.data.store import Store, Subject
from ctsynth.data.volume import Geometry, Volume
from ctsynth.device import check_compiler
from ctsynth.drawing import CORRELATION_LENGTH, Drawing, Slices, draw_all
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.files import read_json, remove_leftovers, sha256, write_json
from ctsynth.stop import Stop, Stopped
from ctsynth.training.checkpoint import Trained, is_step, step_of
from ctsynth.training.regions import compile_blocks

log = logging.getLogger(__name__)

DESCRIPTION = "synthetic CT by ctsynth, not a patient"


@dataclass(frozen=True, slots=True)
class Case:
    """A volume to draw.

    Args:
        name: Keys its noise.
        out: The NIfTI file to write.
        source: What its mask is read from, for the record.
        digest: SHA-256 of that, and of the CT that gives the body.
        labels: The label set that was named for it; None where none was.
        names: What a dataset.json says of its numbers, where they are not the model's own.
        unmatched: What voxels become whose class the model does not know; None refuses more than a few.
        read: Gives the masks (Z, size, size) uint8 of the model's label set, the geometry of the volume to write,
            and where the body came from.
        finish: Turns (Z, size, size) int16 HU into (X, Y, Z) RAS+ voxels of that geometry.
    """

    name: str
    out: Path
    source: str
    digest: str
    read: Callable[[], tuple[NDArray[np.uint8], Geometry, str]]
    finish: Callable[[NDArray[np.int16], Geometry], NDArray[Any]]
    labels: str | None = None
    names: dict[str, int] | None = None
    unmatched: Unmatched | None = None


def cases_of_store(store: Store, split: str, trained: Trained, out: Path) -> list[Case]:
    """The subjects of a store, each on the grid of its re-stacked slices (see ``stacked_geometry``).

    Raises:
        DataError: The store has another label set or another slice size than the model.
    """
    if store.labels != trained.labels:
        raise DataError(f"{store.root}: labels are {store.labels.name}, the model knows {trained.labels.name}")
    if store.size != trained.config.size:
        raise DataError(f"{store.root}: slices of {store.size} pixels, the model draws {trained.config.size}")

    if names_a_file(out):
        raise UsageError(f"--out {out}: name a folder; it gets a volume for each subject of {store.root}")

    def case(subject: Subject) -> Case:
        def read() -> tuple[NDArray[np.uint8], Geometry, str]:
            return np.asarray(subject.mask()), stacked_geometry(subject.geometry, store.size), "label"

        digest = str(subject.record["mask_sha256"])
        source = str(subject.folder / "mask.npy")
        return Case(subject.name, out / f"{subject.name}.nii.gz", source, digest, read, lambda hu, _: stack(hu))

    return [case(subject) for subject in store.subjects(split)]


def cases_of_masks(
    mask: Path,
    trained: Trained,
    out: Path | None,
    *,
    labels: str | None = None,
    body_from: Path | None = None,
    unmatched: Unmatched | None = None,
) -> list[Case]:
    """A label volume, or those of a folder, each on its own grid.

    Args:
        mask: A NIfTI file or a folder of them.
        trained: The model.
        out: A folder, or a NIfTI file for a single mask; None writes NAME_synthetic.nii.gz beside each mask.
        labels: The label set of the masks; None finds it out.
        body_from: A CT on the same grid, from which the body is taken.
        unmatched: What voxels become whose class the model does not know; None refuses more than a few.

    Raises:
        UsageError: There are no masks, or one output or CT is named for several.
    """
    found = volumes(mask) if mask.is_dir() else [mask]
    files = [file for file in found if file == mask or not stem(file).endswith("_synthetic")]
    if not files:
        raise UsageError(f"{mask}: no NIfTI label volumes in this folder")
    if body_from and not body_from.is_file():
        raise DataError(f"{body_from}: no such file")
    single = out is not None and names_a_file(out)
    if len(files) > 1 and (single or body_from):
        raise UsageError(f"{mask} holds {len(files)} masks: name a folder for --out, and no --body-from")

    def case(file: Path) -> Case:
        if not file.is_file():
            raise DataError(f"{file}: no such file")
        name = stem(file)
        target = out if single and out else (out or file.parent) / f"{name}_synthetic.nii.gz"
        digest = sha256(file) + (f"+{sha256(body_from)}" if body_from else "")
        dataset = None if labels else given_by_dataset(file.parent)

        def read() -> tuple[NDArray[np.uint8], Geometry, str]:
            volume = Volume.load(file)
            known, body = complete_labels(
                file, volume, own, labels=labels, dataset=dataset, body_from=body_from, unmatched=unmatched
            )
            return to_slices(known, trained.config.size, "labels"), volume.geometry, body

        own = trained.labels
        return Case(
            name,
            target,
            str(file),
            digest,
            read,
            lambda hu, geometry: from_slices(hu, geometry, "ct"),
            labels,
            dataset.as_json() if dataset and not own.numbers_like(dataset.names) else None,
            unmatched,
        )

    cases = [case(file) for file in files]
    if len({case.out for case in cases}) < len(cases):
        raise UsageError(f"{mask}: two masks of one name would write one volume")
    return cases


def provenance(trained: Trained, case: Case, drawing: Drawing) -> dict[str, Any]:
    """What a synthetic volume was made with: the content of the JSON file beside it, but for the body's origin."""
    config = trained.config
    return {
        "synthetic": True,
        "version": __version__,
        "torch": torch.__version__,
        "model": str(trained.path),
        "method": config.method,
        "iterations": step_of(trained.path) if is_step(trained.path) else None,
        "weights_sha256": trained.digest,
        "label_set": trained.labels.name,
        "size": config.size,
        "window": {"level": config.level, "width": config.width},
        "sampler": asdict(drawing.sampler) if drawing.sampler else None,
        **drawing.choices,
        "seed": drawing.seed,
        "noise": drawing.noise,
        "correlation_length_mm": CORRELATION_LENGTH if drawing.noise == "volume" else None,
        "device": drawing.device.type,
        "precision": drawing.precision,
        "compile": drawing.compile,
        "subject": case.name,
        "mask": case.source,
        "mask_sha256": case.digest,
        "mask_labels": case.labels,
        "mask_names": case.names,
        "unmatched": case.unmatched,
    }


PLACES = ("version", "torch", "model", "compile", "mask")
"""Of a provenance: what may change without the volume being drawn again.

The device may not, as another draws other noise; nor the precision, as bf16 is further from fp32 than 1 HU.
"""


def is_whole(case: Case, wanted: dict[str, Any]) -> bool:
    """Whether a case's volume is there and was made with the same settings."""
    record = record_beside(case.out)
    if not (case.out.is_file() and record.is_file()):
        return False
    try:
        there = read_json(record)
    except DataError:
        return False
    return all(there.get(key) == value for key, value in wanted.items() if key not in PLACES)


def sample(
    trained: Trained,
    cases: list[Case],
    drawing: Drawing,
    *,
    stop: Stop,
    overwrite: bool = False,
    progress: Callable[..., None] = lambda done, note="": None,
) -> Iterator[Path]:
    """Draws the cases and yields the path of each volume, in their order; those that are whole are skipped.

    A volume is written while the next one is drawn.

    Args:
        trained: The model.
        cases: From ``cases_of_store`` or ``cases_of_masks``.
        drawing: How.
        stop: Tells when to stop.
        overwrite: Draw again what is whole.
        progress: Called with the number of cases done, and the name of the one at hand.

    Raises:
        UsageError: The method does not take that sampler or that choice, or nothing here can compile it.
        DataError: The only mask cannot be used.
        RunError: Some of several masks cannot be used; the others are drawn.
        Interrupted: A signal came; the volumes so far are whole.
    """
    check(trained, drawing)
    for name, value in drawing.choices.items():
        setattr(trained.method, name, value)
    if drawing.compile:
        check_compiler(drawing.device)
        compile_blocks(trained.method)
    queue = _Queue(cases, progress)
    volumes = draw_all(trained, queue.opened(trained, drawing, overwrite), drawing, queue.advance)
    with ThreadPoolExecutor(1) as writer:
        try:
            while volume := _next(volumes, stop):
                volume.written = writer.submit(volume.write)
                yield from queue.whole(before=volume)  # waits for those: no more than two are held
        except Stopped:
            yield from queue.whole(before=queue.undrawn())
            if queue.left:
                raise stop.interrupted(
                    f"SIGNAL: {queue.done} of {len(cases)} volumes are whole",
                    "the same command goes on with the next",
                ) from None
        yield from queue.whole()
    if broken := queue.broken:
        listed = "".join(f"\n  {error.message}" for error in broken)
        raise RunError(f"{len(broken)} of {len(cases)} masks cannot be used:{listed}", hint=broken[0].hint)


def _next(volumes: Iterator[_Opened], stop: Stop) -> _Opened | None:
    with stop.interruptible():
        return next(volumes, None)


class _Opened(Slices):
    """A case that is being drawn; ``written`` is set when it is drawn."""

    def __init__(self, case: Case, wanted: dict[str, Any]) -> None:
        masks, self.geometry, body = case.read()
        super().__init__(case.name, masks, self.geometry.spacing[2])
        self.case, self.out, self.record = case, case.out, wanted | {"body": body}
        self.written: Future[None] | None = None

    def write(self) -> None:
        record = record_beside(self.out)
        _clear(self.out, record)
        Volume(self.case.finish(self.hu, self.geometry), self.geometry).save(self.out, DESCRIPTION)
        write_json(record, self.record)


class _Queue:
    """Cases on their way from mask to volume, in their order; those that are whole already among them.

    Attributes:
        done: Volumes that are whole and have been told.
        broken: What was wrong with masks.
    """

    def __init__(self, cases: list[Case], progress: Callable[..., None]) -> None:
        self.cases, self.progress = cases, progress
        self.done = 0
        self.broken: list[DataError] = []
        self._outputs: deque[Case | _Opened] = deque()

    @property
    def left(self) -> int:
        """Cases whose volume is still to come."""
        return len(self.cases) - len(self.broken) - self.done

    def opened(self, trained: Trained, drawing: Drawing, overwrite: bool) -> Iterator[_Opened]:
        """Reads the masks of what is to be drawn."""
        for case in self.cases:
            wanted = provenance(trained, case, drawing)
            if not overwrite and is_whole(case, wanted):
                log.info("%s is whole: skipped", case.out)
                self._outputs.append(case)
                continue
            try:
                volume = _Opened(case, wanted)
            except DataError as error:
                if len(self.cases) == 1:
                    raise
                log.warning("%s", error.message)
                self.broken.append(error)
                continue
            self._outputs.append(volume)
            yield volume

    def advance(self, volume: _Opened, slices: int) -> None:
        """Tells of a batch."""
        self.progress(self.done + len(self.broken), f"{volume.name}: {slices} of {len(volume.masks)} slices")

    def undrawn(self) -> _Opened | None:
        """The first that is not drawn to its end."""
        return next((out for out in self._outputs if isinstance(out, _Opened) and not out.written), None)

    def whole(self, before: _Opened | None = None) -> Iterator[Path]:
        """The paths of those before that one, or of all, when they are written."""
        while self._outputs and self._outputs[0] is not before:
            output = self._outputs[0]
            if isinstance(output, _Opened) and output.written:
                output.written.result()
            self._outputs.popleft()
            self.done += 1
            self.progress(self.done + len(self.broken), output.name)
            yield output.out


def _clear(volume: Path, record: Path) -> None:
    """Removes an old record, which must not vouch for a new volume, and what a killed run was writing."""
    for path in (volume, record):
        remove_leftovers(path)
    with suppress(OSError):  # what is wrong with the folder is said when the volume is written
        record.unlink()


def check(trained: Trained, drawing: Drawing) -> None:
    """Refuses what the model cannot be asked for; ``sample`` does it too, when masks have been read.

    Raises:
        UsageError: The method does not take that sampler or that choice.
    """
    takes = trained.method.samplers
    if drawing.sampler is not None and drawing.sampler.name not in takes:
        raise UsageError(
            f"{trained.config.method} does not take the sampler {drawing.sampler.name!r}",
            hint=f"it takes: {', '.join(takes)}"
            if takes
            else "it draws in one pass: leave --sampler, --steps, --guidance and --eta out",
        )
    if drawing.sampler is not None:
        trained.method.check(drawing.sampler)
    for name, value in drawing.choices.items():
        if value not in trained.method.choices.get(name, ()):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{trained.config.method} does not take {flag} {value}", hint=f"leave {flag} out")
