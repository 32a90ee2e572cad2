"""Sample sheets: the same few test masks at every checkpoint, so that progress can be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ctsynth import figures
from ctsynth.data.loader import SliceDataset
from ctsynth.device import Precision, autocast
from ctsynth.files import atomic
from ctsynth.labels import LabelSet
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import TrainableModel

COUNT = 4
"""Masks on a sheet."""


class SampleSheet:
    """Draws side by side mask, real slice, and what a model makes: a synthetic slice, or the mask that it finds.

    Args:
        dataset: The slices to choose from; the same ones are chosen each time.
        labels: Gives the masks their colors.
        device: Where to draw.
        precision: ``bf16`` or ``fp32``.
    """

    def __init__(
        self, dataset: SliceDataset, labels: LabelSet, *, device: torch.device, precision: Precision
    ) -> None:
        self.labels, self.device, self.precision = labels, device, precision
        self.dataset, self.chosen = dataset, _varied(dataset, COUNT)

    def draw(self, model: TrainableModel, path: Path, step: int, iterations: int) -> None:
        """Writes the sheet of a step as PNG."""
        batch = self.dataset.batch(self.chosen, self.device, model.window, context=model.label_context)
        keys = [("sheet", row) for row in range(len(batch.labels))]
        with torch.inference_mode(), autocast(self.device, self.precision):
            made = model.predict(batch, BatchRNG.at(keys, self.device))
        middles = slice(model.window // 2, None, model.window)
        columns = [self._pictures(slices[middles]) for slices in (batch.own_labels, batch.image, made)]
        title = f"{model.title}, step {step:,} of {iterations:,} ({step / iterations:.0%})"
        headers = ("mask", "real", "found" if made.ndim == 3 else "synthetic")
        rows = list(zip(*columns, strict=True))
        image = figures.sheet(rows, headers=headers, title=title, caption=model.caution(step))
        with atomic(path) as partial:
            image.save(partial, format="PNG")

    def _pictures(self, slices: Tensor) -> list[figures.RGB]:
        """Pictures of slices (B, 1, H, W) in [-1, 1], or of label maps (B, H, W)."""
        if slices.ndim == 3:
            masks = slices.cpu().numpy().astype(np.uint8)
            return [figures.colorize(mask, self.labels) for mask in masks]
        return [figures.gray(unit) for unit in (slices[:, 0].float().cpu().numpy() + 1) / 2]


def _varied(dataset: SliceDataset, count: int) -> list[int]:
    """Slices of subjects spread over the split, each the one with the most classes in its part of the subject.

    Only these subjects' masks are read, not the whole split's.
    """
    starts = dataset.starts
    chosen = np.linspace(0, len(starts) - 2, min(count, len(starts) - 1)).round().astype(int)
    shares = np.array_split(np.arange(count), len(chosen))  # of fewer subjects, each gives more slices
    parts = [
        part
        for subject, share in zip(chosen, shares, strict=True)
        for part in np.array_split(np.arange(starts[subject], starts[subject + 1]), len(share))
        if len(part)
    ]
    return [max(map(int, part), key=lambda index: len(np.unique(dataset.read([index])[1]))) for part in parts]
