"""A segmenter of ours: a run of ``ctsynth train-segmenter``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth.config import RunConfig
from ctsynth.data.slices import from_slices, to_slices
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.data.window import Window
from ctsynth.device import find_device
from ctsynth.errors import DataError, UsageError, about
from ctsynth.labels import LabelSet
from ctsynth.segmentation.base import Segmentation, translate
from ctsynth.segmenters.base import Segmenter
from ctsynth.training import checkpoint

BATCH = 16
"""Slices that are looked at together; their number changes rounding only."""


class TrainedSegmenter:
    """Finds organs slice by slice with the averaged weights of a run.

    Args:
        run: The run's folder, or that of one of its checkpoints.
        device: ``cuda``, ``mps`` or ``cpu``; ``auto`` is the first of these that is there.

    Raises:
        UsageError: There is no checkpoint, or it is a method's.
        DataError: A file of it is missing or damaged.
    """

    def __init__(self, run: Path, device: str = "auto") -> None:
        path = checkpoint.find(run)
        config = RunConfig.read(path / "config.json")
        with about(path / "config.json"):
            self.labels, model = LabelSet.from_json(config.labels), checkpoint.make_model(config)
        if not isinstance(model, Segmenter):
            raise UsageError(
                f"{run}: a run of {config.method}, which draws slices and finds no organs",
                hint="train a segmenter: ctsynth train-segmenter out --out runs/segmenter",
            )
        self._device = find_device(device)
        self._model, self._size, self._window = model, config.size, Window(config.level, config.width)
        run = path.absolute().parents[1] if path.parent.name == "checkpoints" else path.absolute()
        self.name = f"{model.title} of run {run.name}"
        self.version = config.version
        self.settings: Mapping[str, Any] = {
            "checkpoint": path.name,
            "weights": checkpoint.make_ready(model, path, self._device),
            "trained on": {key: config.data.get(key) for key in ("digest", "subjects", "slices")},
            "device": self._device.type,
        }

    def check(self, store: Store) -> None:
        """Refuses volumes of a store that shows patients otherwise than the one that this was trained on.

        Raises:
            DataError: The store has another label set, another slice size or another window.
        """

        def described(window: Window) -> str:
            return f"level {window.level:g} width {window.width:g}"

        if store.labels != self.labels:
            of_other_classes = ", of other classes" if store.labels.name == self.labels.name else ""
            self._refuse(store, "label set", store.labels.name + of_other_classes, self.labels.name)
        if store.size != self._size:
            self._refuse(store, "side of a slice", f"{store.size}", f"{self._size} pixels")
        if store.window != self._window:
            self._refuse(store, "window", described(store.window), described(self._window))

    def _refuse(self, store: Store, what: str, other: str, own: str) -> NoReturn:
        raise DataError(
            f"{store.root}: its {what} is {other}; {self.name} was trained on {own}",
            hint=f"train a segmenter on this store: ctsynth train-segmenter {store.root}",
        )

    def segment(self, volume: Volume, labels: LabelSet, subject: str) -> Segmentation:
        """The organs of a volume, on its grid.

        Raises:
            DataError: None of the label set's classes was trained.
        """
        hu = to_slices(self._window.clip(volume.voxels), self._size, "ct", air=self._window.air)
        found = np.empty(hu.shape, np.uint8)
        for first in range(0, len(hu), BATCH):
            found[first : first + BATCH] = self._find(hu[first : first + BATCH])
        own = self.labels
        relabeling = labels.identity if own == labels else labels.relabel(own.spellings, own.name)
        return translate(from_slices(found, volume.geometry, "labels"), relabeling, labels, self.name, own.name)

    @torch.inference_mode()
    def _find(self, hu: NDArray[np.int16]) -> NDArray[np.uint8]:
        unit = torch.from_numpy(self._window.normalize(hu)).to(self._device)
        found: NDArray[np.uint8] = self._model.segment(2 * unit[:, None] - 1).to(torch.uint8).cpu().numpy()
        return found

    @torch.inference_mode()
    def features(self, slices: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What the network knows of each slice.

        Args:
            slices: (Z, H, W) in [0, 1].

        Returns:
            (Z, d).
        """
        parts = []
        for first in range(0, len(slices), BATCH):
            unit = torch.from_numpy(np.asarray(slices[first : first + BATCH], np.float32)).to(self._device)
            parts.append(self._model.features(2 * unit[:, None] - 1).float().cpu().numpy())
        return np.concatenate(parts)
