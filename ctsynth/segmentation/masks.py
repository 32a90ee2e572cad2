"""Masks that a segmenter has already written, taken from a folder."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctsynth.data.find_volumes import volumes
from ctsynth.data.formats import composed, is_volume, stem
from ctsynth.data.relabel import given_by_dataset, relabeling_of
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError
from ctsynth.files import sha256
from ctsynth.label_files import find_dataset_json
from ctsynth.labels import BACKGROUND, LabelSet
from ctsynth.segmentation.base import Segmentation, translate


class MaskFolder:
    """Reads masks instead of making them.

    FOLDER/SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz holds all organs, its ids named in its header as
    TotalSegmentator writes it with ``--ml``, or in FOLDER/dataset.json as nnU-Net leaves it, or else those of
    ``labels``; or FOLDER/SUBJECT holds a file for each organ, ``liver.nii.gz``, as TotalSegmentator writes it
    without. A mask lies on the grid of the volume that is scored, in any orientation.

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
        named = find_dataset_json(self.folder)
        files = [*filter(is_volume, sorted(self.folder.rglob("*"))), *([named] if named else [])]
        hashes = {os.path.relpath(path, self.folder): sha256(path) for path in files}
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
                    return self._of_file(file, volume.geometry, labels)
        raise DataError(
            f"{self.folder}: no mask of {subject}",
            hint=f"wanted {subject}.nii.gz, or a folder {subject} with a file for each organ",
        )

    def _of_file(self, file: Path, geometry: Geometry, labels: LabelSet) -> Segmentation:
        mask = _read(file, geometry)
        if self._labels and not mask.names:
            relabeling, by = labels.relabel(self._labels.spellings, self._labels.name), self._labels.name
        else:
            relabeling, by = relabeling_of(file, mask, labels, dataset=given_by_dataset(self.folder))
        return translate(mask.voxels, relabeling, labels, str(file), by)


def _of_organs(folder: Path, geometry: Geometry, labels: LabelSet) -> Segmentation:
    files = {stem(file): file for file in volumes(folder)}
    if not files:
        raise DataError(f"{folder}: no masks in it", hint="wanted liver.nii.gz and so on")
    relabeling = labels.relabel({n: (name,) for n, name in enumerate(files, start=1)}, str(folder))
    voxels = np.full(geometry.shape, BACKGROUND, np.uint8, order="F")
    found = set()
    for n, file in enumerate(files.values(), start=1):
        number = relabeling.ids.get(n, labels.body_id)
        if number not in (BACKGROUND, labels.body_id):
            voxels[_read(file, geometry).voxels > 0] = number
            found.add(number)
    return Segmentation(voxels, frozenset(found))


def _read(file: Path, geometry: Geometry) -> Volume:
    mask = Volume.load(file)
    if not mask.geometry.same_as(geometry):
        raise DataError(
            f"{file}: its grid is {mask.geometry}, that of the volume {geometry}",
            hint="masks made on the CT's own grid are scored on that with `native`",
        )
    return mask
