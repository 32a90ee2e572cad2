"""Masks that are computed once: for an interrupted run, and for the real volumes, which all methods share."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctsynth.data.formats import record_beside
from ctsynth.data.record import Kind, Standing, look, save
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError
from ctsynth.files import code_digest
from ctsynth.labels import LabelSet
from ctsynth.segmentation.base import Segmentation, VolumeSegmenter

log = logging.getLogger(__name__)

KIND = Kind("", frozenset({"key", "classes", "segmenter"}))
"""Record of a cached mask; its description is the segmenter's, and may be any."""


class CachedSegmenter:
    """A segmenter whose masks stay in a folder, SUBJECT.nii.gz, and are used again for the same volume.

    The same is: equal voxels, grid, segmenter, version, settings and label set, and the code that asks the
    segmenter, by a SHA-256 in SUBJECT.json; another there is of the mask, which is made again if it is damaged.

    Args:
        segmenter: What makes them.
        folder: Where they stay.
        overwrite: Make again those that are there.
    """

    def __init__(self, segmenter: VolumeSegmenter, folder: Path, *, overwrite: bool = False) -> None:
        self._segmenter, self._folder, self._overwrite = segmenter, folder, overwrite

    @property
    def name(self) -> str:
        """The segmenter's name."""
        return self._segmenter.name

    @property
    def version(self) -> str:
        """The segmenter's version."""
        return self._segmenter.version

    @property
    def settings(self) -> Mapping[str, Any]:
        """The segmenter's settings."""
        return self._segmenter.settings

    def segment(self, volume: Volume, labels: LabelSet, subject: str) -> Segmentation:
        """The organs of a volume, from the folder or made now.

        Raises:
            DataError: The volume cannot be segmented, or a mask that was not made here is in the way.
            RunError: The folder cannot be written to.
        """
        path, key = self._folder / f"{subject}.nii.gz", self._key(volume, labels)
        standing, record = look(path, KIND)
        if standing is Standing.FOREIGN or (standing is Standing.CHANGED and not self._overwrite):
            raise DataError(
                f"{path}: not overwritten: {record_beside(path).name} does not say that this mask was made here",
                hint=f"move it elsewhere; `segmenter` {self._folder} scores your own masks",
            )
        if standing is Standing.WHOLE and record["key"] == key and not self._overwrite:
            if kept := _read(path, record["classes"], volume, labels):
                return kept
            standing = Standing.DAMAGED
        if standing is Standing.DAMAGED:
            log.warning("%s is damaged: made again", path)
        found = self._segmenter.segment(volume, labels, subject)
        about = {"key": key, "classes": sorted(found.classes), "segmenter": self.name, "labels": labels.name}
        save(Volume(found.voxels, volume.geometry), path, f"{self.name} {self.version}", about)
        return found

    def _key(self, volume: Volume, labels: LabelSet) -> str:
        code = code_digest("segmentation", "segmenters", "networks", "data/slices.py", "data/window.py")
        known = [code, self.name, self.version, dict(self.settings), labels.as_json()]
        seen = [volume.geometry.affine.tolist(), volume.voxels.shape, str(volume.voxels.dtype)]
        digest = hashlib.sha256(json.dumps([*known, *seen]).encode())
        for z in range(volume.voxels.shape[2]):
            digest.update(volume.voxels[:, :, z].tobytes())
        return digest.hexdigest()


def _read(path: Path, classes: object, volume: Volume, labels: LabelSet) -> Segmentation | None:
    """The kept mask; None where it cannot be of the volume, or its record names classes that cannot be."""
    if not isinstance(classes, list) or not all(isinstance(n, int) and n in labels.names for n in classes):
        return None
    kept = Volume.load(path)
    if not kept.geometry.same_as(volume.geometry):
        return None
    return Segmentation(kept.voxels.astype(np.uint8), frozenset(classes))
