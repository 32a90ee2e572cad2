"""From the slice store to batches, in an order that is a function of the seed and the position."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth.batch import Batch
from ctsynth.data.store import Store
from ctsynth.errors import DataError


class SliceDataset:
    """All slices of a split, read one by one: resident memory does not grow with the data set.

    Args:
        store: What ``ctsynth preprocess`` wrote.
        split: ``train`` or ``test``.
    """

    def __init__(self, store: Store, split: str) -> None:
        self.window = store.window
        self.subjects = store.subjects(split)
        self._open: dict[int, tuple[_Slices, _Slices]] = {}
        self.starts = np.cumsum([0, *(subject.slices for subject in self.subjects)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Slice ``index`` in HU and its labels, both (H, W)."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        if number not in self._open:
            subject = self.subjects[number]
            self._open[number] = _Slices(subject.ct()), _Slices(subject.mask())
        ct, mask = self._open[number]
        place = index - int(self.starts[number])
        return ct.read(place), mask.read(place)

    def batch(self, indices: list[int], device: torch.device) -> Batch:
        """These slices on a device; HU become [-1, 1] there."""
        slices = [self[index] for index in indices]
        hu = torch.from_numpy(np.stack([ct for ct, _ in slices]))
        labels = torch.from_numpy(np.stack([mask for _, mask in slices]))
        if device.type == "cuda":
            hu, labels = hu.pin_memory(), labels.pin_memory()
        image = hu.to(device, non_blocking=True).float().sub_(self.window.low).mul_(2 / self.window.width).sub_(1)
        return Batch(image[:, None], labels.to(device, non_blocking=True).long())


class _Slices:
    """Reads slices past an array's memory map, whose pages stay with a process once it has seen them."""

    def __init__(self, mapped: NDArray[Any]) -> None:
        assert isinstance(mapped, np.memmap)
        self.path, self.offset = Path(str(mapped.filename)), mapped.offset
        self.shape, self.dtype = mapped.shape[1:], mapped.dtype
        self._file = os.open(self.path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, place: int) -> NDArray[Any]:
        found = np.empty(self.shape, self.dtype)
        try:
            count = os.preadv(self._file, [found.data], self.offset + place * found.nbytes)
        except OSError as error:
            raise DataError(f"{self.path}: cannot read slice {place}: {error.strerror}") from error
        if count != found.nbytes:
            raise DataError(
                f"{self.path}: it ends within slice {place}",
                hint="make the store again: ctsynth preprocess --overwrite",
            )
        return found


def shuffled(length: int, seed: int, start: int, count: int) -> list[int]:
    """Entries ``start`` to ``start + count`` of an endless order in which every epoch is a permutation of its own.

    No slice is dropped at the end of an epoch: a batch may reach into the next one.
    """
    return [int(_permutation(length, seed, at // length)[at % length]) for at in range(start, start + count)]


@functools.lru_cache(maxsize=2)
def _permutation(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)
