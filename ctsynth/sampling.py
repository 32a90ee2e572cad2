"""From a checkpoint and label volumes to synthetic CT volumes in HU, on the label volumes' own grids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth import __version__
from ctsynth.data.masks import complete_labels
from ctsynth.data.slices import from_slices, stack, stacked_geometry, to_slices
from ctsynth.data.store import Store, Subject
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.device import Precision, autocast
from ctsynth.diffusion.samplers import SamplerConfig
from ctsynth.errors import DataError, Interrupted, RunError, UsageError
from ctsynth.files import read_json, remove_leftovers, sha256, write_json
from ctsynth.randomness import Draws
from ctsynth.stop import Stop, Stopped
from ctsynth.training.checkpoint import Trained, step_of

log = logging.getLogger(__name__)

CORRELATION_LENGTH = 12.0
"""Of the noise along z, mm: at AMOS's 1.25 to 5 mm neighboring slices share most of it, at 15 mm little."""

CPU = torch.device("cpu")

DESCRIPTION = "synthetic CT by ctsynth, not a patient"

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """How volumes are drawn.

    Args:
        sampler: None for a method that draws in one pass.
        seed: Same seed, same volume.
        noise: ``volume`` starts neighboring slices from alike noise, ``slice`` each from its own.
        batch_size: Slices drawn at once; changes rounding only.
        device: Where.
        precision: ``bf16`` or ``fp32``.
        choices: Of the method's own, such as ``pix2pix_test``.
    """

    sampler: SamplerConfig | None
    seed: int = 0
    noise: Literal["volume", "slice"] = "volume"
    batch_size: int = 16
    device: torch.device = CPU
    precision: Precision = "fp32"
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A volume to draw.

    Args:
        name: Keys its noise.
        out: The NIfTI file to write.
        source: What its mask is read from, for the record.
        digest: SHA-256 of that, and of the CT that gives the body.
        labels: The label set that was named for it; None where none was.
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


def cases_of_store(store: Store, split: str, trained: Trained, out: Path) -> list[Case]:
    """The subjects of a store, each on the grid of its re-stacked slices (see ``stacked_geometry``).

    Raises:
        DataError: The store has another label set or another slice size than the model.
    """
    if store.labels.as_json() != trained.labels.as_json():
        raise DataError(f"{store.root}: labels are {store.labels.name}, the model knows {trained.labels.name}")
    if store.size != trained.config.size:
        raise DataError(f"{store.root}: slices of {store.size} pixels, the model draws {trained.config.size}")

    if out.name.endswith(SUFFIXES):
        raise UsageError(f"--out {out}: name a folder; it gets a volume for each subject of {store.root}")

    def case(subject: Subject) -> Case:
        def read() -> tuple[NDArray[np.uint8], Geometry, str]:
            return np.asarray(subject.mask()), stacked_geometry(subject.geometry, store.size), "label"

        digest = str(subject.record["mask_sha256"])
        source = str(subject.folder / "mask.npy")
        return Case(subject.name, out / f"{subject.name}.nii.gz", source, digest, read, lambda hu, _: stack(hu))

    return [case(subject) for subject in store.subjects(split)]


def cases_of_masks(
    mask: Path, trained: Trained, out: Path | None, *, labels: str | None = None, body_from: Path | None = None
) -> list[Case]:
    """A label volume, or those of a folder, each on its own grid.

    Args:
        mask: A NIfTI file or a folder of them.
        trained: The model.
        out: A folder, or a NIfTI file for a single mask; None writes NAME_synthetic.nii.gz beside each mask.
        labels: The label set of the masks; None finds it out.
        body_from: A CT on the same grid, from which the body is taken.

    Raises:
        UsageError: There are no masks, or one output or CT is named for several.
    """
    files = [mask] if mask.is_file() or not mask.is_dir() else sorted(_label_volumes(mask))
    if not files:
        raise UsageError(f"{mask}: no NIfTI label volumes in this folder")
    if body_from and not body_from.is_file():
        raise DataError(f"{body_from}: no such file")
    single = out is not None and out.name.endswith(SUFFIXES)
    if len(files) > 1 and (single or body_from):
        raise UsageError(f"{mask} holds {len(files)} masks: name a folder for --out, and no --body-from")

    def case(file: Path) -> Case:
        if not file.is_file():
            raise DataError(f"{file}: no such file")
        name = stem(file)
        target = out if single and out else (out or file.parent) / f"{name}_synthetic.nii.gz"
        digest = sha256(file) + (f"+{sha256(body_from)}" if body_from else "")

        def read() -> tuple[NDArray[np.uint8], Geometry, str]:
            volume = Volume.load(file)
            known, body = complete_labels(file, volume, trained.labels, labels=labels, body_from=body_from)
            return to_slices(known, trained.config.size, "labels"), volume.geometry, body

        return Case(
            name, target, str(file), digest, read, lambda hu, geometry: from_slices(hu, geometry, "ct"), labels
        )

    cases = [case(file) for file in files]
    if len({case.out for case in cases}) < len(cases):
        raise UsageError(f"{mask}: two masks of one name, .nii and .nii.gz, would write one volume")
    return cases


def stem(file: Path) -> str:
    """A file's name without .nii or .nii.gz."""
    return next((file.name.removesuffix(suffix) for suffix in SUFFIXES if file.name.endswith(suffix)), file.stem)


def _label_volumes(folder: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        hidden = file.name.startswith(".")
        if file.name.endswith(SUFFIXES) and not hidden and not stem(file).endswith("_synthetic"):
            yield file


def draw(
    trained: Trained,
    masks: NDArray[np.uint8],
    spacing: float,
    name: str,
    drawing: Drawing,
    advance: Callable[[int], None] = lambda slices: None,
) -> NDArray[np.int16]:
    """Draws the slices of one volume.

    Args:
        trained: The model.
        masks: (Z, size, size) labels of its set, body included.
        spacing: Between slices, mm.
        name: The subject, which keys the noise.
        drawing: How.
        advance: Called after each batch with the number of slices so far.

    Returns:
        (Z, size, size) int16, HU within the model's window.
    """
    window = Window(trained.config.level, trained.config.width)
    drawn = np.empty(masks.shape, np.int16)
    for first in range(0, len(masks), drawing.batch_size):
        chunk = masks[first : first + drawing.batch_size]
        places = range(first, first + len(chunk))
        if drawing.noise == "volume":
            positions = [place * spacing for place in places]
            rng = Draws.smooth(("sample", drawing.seed, name), positions, CORRELATION_LENGTH, drawing.device)
        else:
            rng = Draws.at([("sample", drawing.seed, name, place) for place in places], drawing.device)
        labels = torch.from_numpy(chunk.astype(np.int64)).to(drawing.device)
        with torch.inference_mode(), autocast(drawing.device, drawing.precision):
            image = trained.method.generate(labels, rng=rng, sampler=drawing.sampler)
        unit = (image[:, 0].float().cpu().numpy() + 1) / 2
        drawn[first : first + len(chunk)] = np.rint(window.denormalize(unit))
        advance(first + len(chunk))
    return drawn


def provenance(trained: Trained, case: Case, drawing: Drawing) -> dict[str, Any]:
    """What a synthetic volume was made with: the content of the JSON file beside it, but for the body's origin."""
    config = trained.config
    is_step = trained.path.name.startswith("step_")
    return {
        "synthetic": True,
        "version": __version__,
        "torch": torch.__version__,
        "model": str(trained.path),
        "method": config.method,
        "iterations": step_of(trained.path) if is_step else None,
        "weights_sha256": trained.digest,
        "label_set": trained.labels.name,
        "size": config.size,
        "window": {"level": config.level, "width": config.width},
        "sampler": asdict(drawing.sampler) if drawing.sampler else None,
        **drawing.choices,
        "seed": drawing.seed,
        "noise": drawing.noise,
        "correlation_length_mm": CORRELATION_LENGTH if drawing.noise == "volume" else None,
        "device": str(drawing.device),
        "precision": drawing.precision,
        "subject": case.name,
        "mask": case.source,
        "mask_sha256": case.digest,
        "mask_labels": case.labels,
    }


PLACES = ("version", "torch", "model", "device", "precision", "mask")
"""Of a provenance: what may change without the volume being drawn again."""


def is_whole(case: Case, wanted: dict[str, Any]) -> bool:
    """Whether a case's volume is there and was made with the same settings."""
    record = case.out.with_name(stem(case.out) + ".json")
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
    """Draws the cases one by one and yields the path of each volume; those that are whole are skipped.

    Args:
        trained: The model.
        cases: From ``cases_of_store`` or ``cases_of_masks``.
        drawing: How.
        stop: Tells when to stop.
        overwrite: Draw again what is whole.
        progress: Called with the number of cases done, and the name of the one at hand.

    Raises:
        UsageError: The method does not take that sampler or that choice.
        DataError: The only mask cannot be used.
        RunError: Some of several masks cannot be used; the others are drawn.
        Interrupted: A signal came; the volumes so far are whole.
    """
    _check_sampler(trained, drawing)
    _choose(trained, drawing)
    broken: list[DataError] = []
    for number, case in enumerate(cases):
        wanted = provenance(trained, case, drawing)
        if not overwrite and is_whole(case, wanted):
            log.info("%s is whole: skipped", case.out)
        else:
            try:
                with stop.interruptible():
                    hu, geometry, body = _drawn(trained, case, drawing, partial(progress, number))
            except Stopped:
                assert stop.requested is not None
                raise Interrupted(
                    f"{stop.requested.name}: {number - len(broken)} of {len(cases)} volumes are whole",
                    hint="the same command goes on with the next",
                ) from None
            except DataError as error:
                if len(cases) == 1:
                    raise
                log.warning("%s", error.message)
                broken.append(error)
                continue
            record = case.out.with_name(stem(case.out) + ".json")
            _clear(case.out, record)
            Volume(case.finish(hu, geometry), geometry).save(case.out, DESCRIPTION)
            write_json(record, wanted | {"body": body})
        progress(number + 1, case.name)
        yield case.out
    if broken:
        listed = "".join(f"\n  {error.message}" for error in broken)
        raise RunError(f"{len(broken)} of {len(cases)} masks cannot be used:{listed}", hint=broken[0].hint)


def _drawn(
    trained: Trained, case: Case, drawing: Drawing, note: Callable[[str], None]
) -> tuple[NDArray[np.int16], Geometry, str]:
    masks, geometry, body = case.read()

    def advance(slices: int) -> None:
        note(f"{case.name}: {slices} of {len(masks)} slices")

    return draw(trained, masks, geometry.spacing[2], case.name, drawing, advance), geometry, body


def _clear(volume: Path, record: Path) -> None:
    """Removes an old record, which must not vouch for a new volume, and what a killed run was writing."""
    for path in (volume, record):
        remove_leftovers(path)
    with suppress(OSError):  # what is wrong with the folder is said when the volume is written
        record.unlink()


def _check_sampler(trained: Trained, drawing: Drawing) -> None:
    takes = trained.method.samplers
    if drawing.sampler is not None and drawing.sampler.name not in takes:
        raise UsageError(
            f"{trained.config.method} does not take the sampler {drawing.sampler.name!r}",
            hint=f"it takes: {', '.join(takes)}"
            if takes
            else "it draws in one pass: leave --sampler, --steps and --guidance out",
        )


def _choose(trained: Trained, drawing: Drawing) -> None:
    for name, value in drawing.choices.items():
        if value not in trained.method.choices.get(name, ()):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{trained.config.method} does not take {flag} {value}", hint=f"leave {flag} out")
        setattr(trained.method, name, value)
