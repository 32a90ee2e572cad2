"""From the slice store to batches, in an order that is a function of the seed and the position."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth.data.slice_files import SliceFiles
from ctsynth.data.store import Store
from ctsynth.trainable import Batch


class SliceDataset:
    """All slices of a split, read one by one: resident memory does not grow with the data set.

    Args:
        store: What ``ctsynth preprocess`` wrote.
        split: ``train`` or ``test``.
    """

    def __init__(self, store: Store, split: str) -> None:
        self.window, self.size = store.window, store.size
        self.subjects = store.subjects(split)
        self._files = SliceFiles(len(self.subjects))
        self.starts = np.cumsum([0, *(subject.slices for subject in self.subjects)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, indices: list[int]) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """These slices in HU and their labels, both (B, H, W)."""
        shape = (len(indices), self.size, self.size)
        hu, labels = np.empty(shape, np.int16), np.empty(shape, np.uint8)
        for row, index in enumerate(indices):
            if not 0 <= index < len(self):
                raise IndexError(index)
            number = int(np.searchsorted(self.starts, index, side="right")) - 1
            subject, place = self.subjects[number], index - int(self.starts[number])
            self._files.read(subject, "ct", place, hu[row])
            self._files.read(subject, "mask", place, labels[row])
        return hu, labels

    def batch(self, indices: list[int], device: torch.device) -> Batch:
        """These slices on a device; HU become [-1, 1] there."""
        hu, labels = map(torch.from_numpy, self.read(indices))
        if device.type == "cuda":
            hu, labels = hu.pin_memory(), labels.pin_memory()
        image = hu.to(device, non_blocking=True).float().sub_(self.window.low).mul_(2 / self.window.width).sub_(1)
        return Batch(image[:, None], labels.to(device, non_blocking=True).long())


def shuffled(length: int, seed: int, start: int, count: int) -> list[int]:
    """Entries ``start`` to ``start + count`` of an endless order in which every epoch is a permutation of its own.

    No slice is dropped at the end of an epoch: a batch may reach into the next one.
    """
    return [int(_permutation(length, seed, at // length)[at % length]) for at in range(start, start + count)]


@functools.lru_cache(maxsize=2)
def _permutation(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)
