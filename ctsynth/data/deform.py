"""Label volumes deformed to others that a patient could have, each with a record of the distance to its source."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ctsynth import __version__
from ctsynth.data.diffeomorphism import RMS_MM, SMOOTHNESS_MM, Deformation, extent_of
from ctsynth.data.edit_labels import Edit
from ctsynth.data.find_volumes import volumes
from ctsynth.data.formats import record_beside, stem
from ctsynth.data.insert import Insertion
from ctsynth.data.plausible import Labels, distances, implausible
from ctsynth.data.record import Kind, Standing, look, save
from ctsynth.data.relabel import check_labels, given_by_dataset
from ctsynth.data.volume import Volume
from ctsynth.data.warp import warped, warped_image
from ctsynth.errors import CTSynthError, DataError, RunError, UsageError, WriteError, explain
from ctsynth.files import sha256
from ctsynth.outputs import check_length, refuse_inputs
from ctsynth.schema import Range, check

log = logging.getLogger(__name__)

DESCRIPTION = "label map deformed by ctsynth, not a patient's"
KIND = Kind(DESCRIPTION, frozenset({"deformed", "mask_sha256", "seed", "strength", "edits"}))
"""Record of a label volume that was deformed here."""

TRIES = 20
"""Deformations that are tried before a label volume is given up."""

_MADE = re.compile(r"_(deformed|synthetic)(_\d+)?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeformConfig:
    """How label volumes are deformed."""

    samples: Annotated[int, Range(1, 10_000)] = 1
    """Deformed volumes of each."""

    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Same seed, same deformations."""

    strength: Annotated[float, Range(0, 10)] = 1.0
    """Factor of the displacement, whose root mean square is 6 mm in plane and 4 mm along z."""

    edits: tuple[Edit, ...] = ()
    """Classes that are scaled or shifted before."""

    insertions: tuple[Insertion, ...] = ()
    """Classes that are put in before those."""

    def __post_init__(self) -> None:
        check(self)


def label_volumes(mask: Path) -> list[Path]:
    """The label volumes that a path means: itself, or those of a folder that were not made here.

    Raises:
        DataError: There are none.
    """
    if not mask.exists():
        raise DataError(f"{mask}: no such file or folder")
    files = [file for file in volumes(mask) if not _MADE.search(stem(file))] if mask.is_dir() else [mask]
    if not files:
        raise DataError(f"{mask}: no label volumes here")
    return files


def deform(
    files: list[Path],
    out: Path | None,
    config: DeformConfig,
    *,
    overwrite: bool = False,
    progress: Callable[..., None] = lambda done, note="": None,
) -> Iterator[Path]:
    """Writes NAME_deformed_0.nii.gz and on for each label volume and yields their paths; whole ones are skipped.

    Args:
        files: Label volumes.
        out: Folder for them; None is that of each label volume.
        config: How.
        overwrite: Replace volumes made with other settings.
        progress: Called with the number of label volumes done, and the name of the current one.

    Raises:
        UsageError: An output is a user's file, or was made with other settings.
        DataError: The only label volume cannot be used.
        RunError: Some of several cannot be used, or no deformation of one is plausible; the others are made.
    """
    outputs = {file: _outputs(file, out, config.samples) for file in files}
    every = [path for paths in outputs.values() for path in paths]
    read = [*files, *(one.mask for one in config.insertions)]
    refuse_inputs([*every, *map(record_beside, every)], read)
    if len(set(every)) < len(every):
        raise UsageError("two label volumes with the same name would write the same file", hint="omit `out`")
    broken: list[CTSynthError] = []
    for done, (file, paths) in enumerate(outputs.items()):
        progress(done, file.name)
        try:
            yield from _deform_one(file, paths, config, overwrite=overwrite)
        except (UsageError, WriteError):
            raise
        except Exception as error:
            broken.append(explain(error, str(file)))
            if len(files) == 1:
                raise broken[0] from error
            log.warning("%s", broken[0].message)
    progress(len(files))
    if broken:
        listed = "".join(f"\n  {error.message}" for error in broken)
        raise RunError(f"{len(broken)} of {len(files)} label volumes cannot be deformed:{listed}")


def _outputs(file: Path, out: Path | None, samples: int) -> list[Path]:
    paths = [(out or file.parent) / f"{stem(file)}_deformed_{sample}.nii.gz" for sample in range(samples)]
    check_length(paths[-1], str(file))
    return paths


def _deform_one(file: Path, paths: list[Path], config: DeformConfig, *, overwrite: bool) -> Iterator[Path]:
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    wanted = {
        "mask_sha256": sha256(file),
        "seed": config.seed,
        "strength": config.strength,
        "edits": [*map(str, config.insertions), *map(str, config.edits)],
    }
    whole = [_is_whole(path, wanted, overwrite=overwrite) for path in paths]
    if not all(whole):
        volume = Volume.load(file)
        labels, names = _integers(file, volume), _names(file, volume)
        for one in config.insertions:
            labels, names = one.into(str(file), labels, volume.geometry, names)
    for sample, (path, is_there) in enumerate(zip(paths, whole, strict=True)):
        if is_there:
            log.info("%s is whole: skipped", path)
        else:
            made, found = deformed(labels, volume.geometry.spacing, names, config, (stem(file), sample))
            record = {"deformed": True, "version": __version__, "mask": str(file), **wanted, "sample": sample}
            save(Volume(made, volume.geometry, names or None), path, DESCRIPTION, record | found)
        yield path


def _is_whole(path: Path, wanted: Mapping[str, Any], *, overwrite: bool) -> bool:
    standing, found = look(path, KIND)
    if standing is Standing.FOREIGN:
        raise UsageError(
            f"{path}: not overwritten: no record of a deformed label volume beside it",
            hint="move it elsewhere, or name another `out`",
        )
    if standing is Standing.FREE or overwrite:
        return False
    changed = [f"{key} {found[key]}, not {value}" for key, value in wanted.items() if found[key] != value]
    if standing is Standing.CHANGED or changed:
        problem = f"made with {changed[0]}" if changed else "changed since it was made"
        raise UsageError(f"{path}: {problem}", hint="name another `out`, or make it again with `overwrite`")
    return standing is Standing.WHOLE


def _integers(file: Path, volume: Volume) -> Labels:
    counts = check_labels(str(file), volume.voxels)
    if set(counts) <= {0}:
        raise DataError(f"{file}: nothing but background (0), wanted labels of organs")
    return volume.voxels.astype(np.uint8 if max(counts) < 256 else np.uint16)


def _names(file: Path, volume: Volume) -> dict[int, str]:
    """What the values mean, as the file's header or a dataset.json says; empty where nobody does."""
    if volume.names:
        return dict(volume.names)
    given = given_by_dataset(file.parent)
    return {value: names[0] for value, names in given.names.items()} if given else {}


def deformed(
    labels: Labels,
    spacing: tuple[float, float, float],
    names: Mapping[int, str],
    config: DeformConfig,
    key: tuple[str, int],
) -> tuple[Labels, dict[str, Any]]:
    """The first plausible one of ``TRIES`` random deformations of a label volume, and its record.

    Args:
        labels: (X, Y, Z) RAS+.
        spacing: Of the voxels, mm.
        names: Of the classes, as far as they are known.
        config: How.
        key: Name of the volume and number of the sample, which with the seed choose the deformation.

    Raises:
        RunError: None is plausible.
        DataError: There is no class of an edit's name, or an edit is too large.
    """
    made, record, _ = _plausible(labels, spacing, names, config, key)
    return made, record


def deformed_pair(
    image: NDArray[Any],
    labels: Labels,
    spacing: tuple[float, float, float],
    names: Mapping[int, str],
    config: DeformConfig,
    key: tuple[str, int],
) -> tuple[NDArray[Any], Labels, dict[str, Any]]:
    """An image and its labels deformed by the same map: that of ``deformed``, which gives the same labels.

    Args:
        image: (X, Y, Z) RAS+, HU; interpolated linearly, and beyond the volume its border is repeated.
        labels: (X, Y, Z), of the image.
        spacing: Of the voxels, mm.
        names: Of the classes, as far as they are known.
        config: How, without edits and insertions.
        key: Name of the volume and number of the sample.

    Raises:
        RunError: No deformation is plausible.
        ValueError: The shapes differ, or there are edits, which are of labels only.
    """
    if image.shape != labels.shape:
        raise ValueError(f"image and labels must have one shape, not {image.shape} and {labels.shape}")
    if config.edits or config.insertions:
        raise ValueError("edits are of labels only: deform an image without them")
    made, record, deformation = _plausible(labels, spacing, names, config, key)
    return warped_image(image, spacing, deformation), made, record


def _plausible(
    labels: Labels,
    spacing: tuple[float, float, float],
    names: Mapping[int, str],
    config: DeformConfig,
    key: tuple[str, int],
) -> tuple[Labels, dict[str, Any], Deformation]:
    extent = extent_of(labels.shape, spacing)
    edited = _edited(labels, spacing, names, config.edits, key[0])
    refused: list[str] = []
    for attempt in range(TRIES):
        rng = np.random.default_rng([config.seed, crc32(key[0].encode()), key[1], attempt])
        deformation = Deformation.random(extent, rng, config.strength)
        made, lengths = warped(edited, spacing, deformation)
        reason = implausible(edited, made, names)
        if not reason:
            record = {
                "smoothness_mm": SMOOTHNESS_MM,
                "rms_mm": [config.strength * length for length in RMS_MM],
                "smallest_jacobian": round(deformation.smallest_jacobian(), 4),
                "refused": refused,
                "distance": {**lengths, "classes": distances(labels, made, names)},
            }
            return made, record, deformation
        refused.append(reason)
    raise RunError(
        f"{key[0]}: none of {TRIES} deformations is plausible; in the last {refused[-1]}",
        hint="say `strength` 0.5, or another `seed`",
    )


def _edited(
    labels: Labels,
    spacing: tuple[float, float, float],
    names: Mapping[int, str],
    edits: tuple[Edit, ...],
    name: str,
) -> Labels:
    for edit in edits:
        made, _ = warped(labels, spacing, edit.deformation(name, labels, spacing, names))
        if reason := implausible(labels, made, names, most_change=math.inf):  # its neighbors may give way
            raise DataError(f"{name}: after {edit} {reason}", hint="use a smaller edit")
        labels = made
    return labels
