"""Masks that are made once: for a run that was broken off, and for the real volumes, which all methods share."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctsynth.data.volume import Volume
from ctsynth.errors import DataError
from ctsynth.files import code_digest, read_json, sha256, write_json
from ctsynth.labels import LabelSet
from ctsynth.metrics.segmenters.base import Segmentation, Segmenter

log = logging.getLogger(__name__)


class Kept:
    """A segmenter whose masks stay in a folder, SUBJECT.nii.gz, and are used again for the same volume.

    The same is: equal voxels, grid, segmenter, version, settings and label set, and the code that asks the
    segmenter, by a SHA-256 in SUBJECT.json; another there is of the mask, which is made again if it is damaged.

    Args:
        segmenter: What makes them.
        folder: Where they stay.
        overwrite: Make again those that are there.
    """

    def __init__(self, segmenter: Segmenter, folder: Path, *, overwrite: bool = False) -> None:
        self._segmenter, self._folder, self._overwrite = segmenter, folder, overwrite

    @property
    def name(self) -> str:
        """Of the segmenter."""
        return self._segmenter.name

    @property
    def version(self) -> str:
        """Of the segmenter."""
        return self._segmenter.version

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the segmenter."""
        return self._segmenter.settings

    def segment(self, volume: Volume, labels: LabelSet, subject: str) -> Segmentation:
        """The organs of a volume, from the folder or made now.

        Raises:
            DataError: The volume cannot be segmented.
            RunError: The folder cannot be written to.
        """
        mask, record = self._folder / f"{subject}.nii.gz", self._folder / f"{subject}.json"
        key = self._key(volume, labels)
        if not self._overwrite and (kept := _read(mask, record, key, labels)):
            return kept
        found = self._segmenter.segment(volume, labels, subject)
        record.unlink(missing_ok=True)  # so that it never stands beside another mask
        Volume(found.voxels, volume.geometry).save(mask, f"{self.name} {self.version}")
        about = {"key": key, "mask_sha256": sha256(mask), "classes": sorted(found.classes)}
        write_json(record, about | {"segmenter": self.name, "labels": labels.name})
        return found

    def _key(self, volume: Volume, labels: LabelSet) -> str:
        code = code_digest("metrics/segmenters", "segmenters", "networks", "data/slices.py", "data/window.py")
        known = [code, self.name, self.version, dict(self.settings), labels.as_json()]
        seen = [volume.geometry.affine.tolist(), volume.voxels.shape, str(volume.voxels.dtype)]
        digest = hashlib.sha256(json.dumps([*known, *seen]).encode())
        for z in range(volume.voxels.shape[2]):
            digest.update(volume.voxels[:, :, z].tobytes())
        return digest.hexdigest()


def _read(mask: Path, record: Path, key: str, labels: LabelSet) -> Segmentation | None:
    """The kept mask; None where there is none of this key, or it is not what was written."""
    if not (mask.is_file() and record.is_file()):
        return None
    try:
        content = read_json(record)
        if content["key"] != key:
            return None
        classes = frozenset(content["classes"])
        if content["mask_sha256"] == sha256(mask) and classes <= labels.names.keys():
            return Segmentation(Volume.load(mask).voxels.astype(np.uint8), classes)
    except (OSError, DataError, KeyError, TypeError) as error:
        log.debug("%s: %s", record, error)
    log.warning("%s is damaged: made again", mask)
    return None
