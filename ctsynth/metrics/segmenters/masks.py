"""Masks that a segmenter has already written, taken from a folder."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.formats import composed, is_volume, stem, volumes
from ctsynth.data.volume import Geometry, Volume, label_names
from ctsynth.errors import DataError
from ctsynth.files import sha256
from ctsynth.labels import BACKGROUND, LabelSet
from ctsynth.metrics.segmenters.base import Segmentation, named, translate


class MaskFolder:
    """Reads masks instead of making them.

    FOLDER/SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz holds all organs, its ids named in its header as
    TotalSegmentator writes it with ``--ml``, or else those of ``labels``; or FOLDER/SUBJECT holds a file for each
    organ, ``liver.nii.gz``, as TotalSegmentator writes it without. A mask lies on the grid of the volume that is
    scored, in any orientation.

    Args:
        folder: Where they lie.
        labels: What the ids of a file without names mean; None is the label set that is asked for.
        program: What made them, for tables.
    """

    version = ""

    def __init__(self, folder: Path, labels: LabelSet | None = None, program: str = "") -> None:
        self.folder = folder
        self.name = program or f"masks in {folder.absolute().name}"
        self._labels = labels

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        """Where the masks are from, and a SHA-256 of them all."""
        files = filter(is_volume, sorted(self.folder.rglob("*")))
        hashes = {str(path.relative_to(self.folder)): sha256(path) for path in files}
        digest = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
        labels = {"labels": self._labels.name} if self._labels else {}
        return {"masks": self.folder.absolute().name, "masks_sha256": digest} | labels

    def segment(self, volume: Volume, labels: LabelSet, subject: str) -> Segmentation:
        """Reads the subject's mask.

        Raises:
            DataError: There is none, it is on another grid, or it holds other ids than its label set.
        """
        for name in (subject, f"{subject}_synthetic"):
            if (self.folder / name).is_dir():
                return _of_organs(self.folder / name, volume.geometry, labels)
            for file in reversed(volumes(self.folder)):  # .nii.gz before .nii
                if stem(file) == composed(name):
                    names = label_names(file)
                    own = named(names, f"the names in {file}") if names else self._labels or labels
                    return translate(_read(file, volume.geometry), own, labels, str(file))
        raise DataError(
            f"{self.folder}: no mask of {subject}",
            hint=f"wanted {subject}.nii.gz, or a folder {subject} with a file for each organ",
        )


def _of_organs(folder: Path, geometry: Geometry, labels: LabelSet) -> Segmentation:
    files = {stem(file): file for file in volumes(folder)}
    if not files:
        raise DataError(f"{folder}: no masks in it", hint="wanted liver.nii.gz and so on")
    own = named({n: name for n, name in enumerate(files, start=1) if n < 255}, str(folder))
    mapping = labels.mapping_from(own)
    voxels = np.full(geometry.shape, BACKGROUND, np.uint8, order="F")
    for organ in own.classes:
        if mapping[organ.id] != labels.body_id:
            voxels[_read(files[organ.name], geometry) > 0] = mapping[organ.id]
    return Segmentation(voxels, frozenset(mapping.values()) - {BACKGROUND, labels.body_id})


def _read(file: Path, geometry: Geometry) -> NDArray[Any]:
    mask = Volume.load(file)
    if not mask.geometry.same_as(geometry):
        raise DataError(
            f"{file}: its grid is {mask.geometry}, that of the volume {geometry}",
            hint="masks made on the CT's own grid are scored on that with --native",
        )
    return mask.voxels
