"""From the slice store to batches, in an order that is a function of the seed and the position."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth.data.slice_files import SliceFiles
from ctsynth.data.store import Store
from ctsynth.trainable import Batch, Windows


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
        self._ahead: _Reading | None = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def order(self, seed: int, start: int, count: int) -> list[int]:
        """Entries ``start`` to ``start + count`` of the order in which slices are trained on."""
        return shuffled(len(self), seed, start, count)

    def read(self, indices: list[int], context: int = 0) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """These slices in HU, (B, H, W), and their labels.

        The labels are (B, H, W) too or, where there is a context of N, (B, 2 N + 1, H, W): those of the N slices
        before and after each; past an end of the volume those of its last slice.
        """
        side = self.size
        hu = np.empty((len(indices), side, side), np.int16)
        labels = np.empty((len(indices), 2 * context + 1, side, side), np.uint8)
        for row, index in enumerate(indices):
            if not 0 <= index < len(self):
                raise IndexError(index)
            number = int(np.searchsorted(self.starts, index, side="right")) - 1
            subject, place = self.subjects[number], index - int(self.starts[number])
            self._files.read(subject, "ct", place, hu[row])
            for shift, into in zip(range(-context, context + 1), labels[row], strict=True):
                self._files.read(subject, "mask", min(max(place + shift, 0), subject.slices - 1), into)
        return hu, labels if context else labels[:, 0]

    def batch(
        self,
        indices: list[int],
        device: torch.device,
        window: int = 1,
        strides: Sequence[int] | None = None,
        context: int = 0,
    ) -> Batch:
        """These slices on a device; HU become [-1, 1] there.

        Args:
            indices: The slices or, where ``window`` is more than 1, the middles of the windows.
            device: Where.
            window: Slices of a window, ``window // 2`` of them before the middle.
            strides: Stride of each window, in slices; 1 where None.
            context: As in ``read``.
        """
        windows = None
        if window > 1:
            indices, windows = self._windows(indices, window, strides or [1] * len(indices))
            windows = Windows(*(column.to(device) for column in (windows.valid, windows.spacing, windows.stride)))
        if self._ahead is not None and self._ahead.wanted == (indices, context):
            (hu, labels), self._ahead = map(torch.from_numpy, self._ahead.result()), None
        else:
            hu, labels = map(torch.from_numpy, self.read(indices, context))
        if device.type == "cuda":
            hu, labels = hu.pin_memory(), labels.pin_memory()
        image = hu.to(device, non_blocking=True).float().sub_(self.window.low).mul_(2 / self.window.width).sub_(1)
        return Batch(image[:, None], labels.to(device, non_blocking=True).long(), windows=windows)

    def read_ahead(
        self, indices: list[int], window: int = 1, strides: Sequence[int] | None = None, context: int = 0
    ) -> None:
        """Begins to read a batch in a thread, so that ``batch`` of the same arguments finds it read.

        A batch of others is read as if there were no thread, so that this never changes what a batch holds. What
        cannot be read is an error of ``batch`` alone.
        """
        if window > 1:
            indices, _ = self._windows(indices, window, strides or [1] * len(indices))
        self._ahead = _Reading(self, indices, context)

    def _windows(self, middles: list[int], window: int, strides: Sequence[int]) -> tuple[list[int], Windows]:
        """The slices of windows; where one reaches past an end of its volume, the slice at that end for each."""
        numbers = np.searchsorted(self.starts, middles, side="right") - 1
        low, high = self.starts[numbers, None], self.starts[numbers + 1, None] - 1
        wanted = np.array(middles)[:, None] + np.array(strides)[:, None] * (np.arange(window) - window // 2)
        inside = wanted.clip(low, high)
        spacing = [self.subjects[number].geometry.spacing[2] for number in numbers]
        columns = (wanted == inside, np.array(spacing, np.float32), np.array(strides, np.float32))
        return [int(index) for index in inside.ravel()], Windows(*map(torch.from_numpy, columns))


class _Reading(threading.Thread):
    """Reads slices; a daemon, so that a process that ends waits for no disk."""

    def __init__(self, dataset: SliceDataset, indices: list[int], context: int) -> None:
        super().__init__(name="read-ahead", daemon=True)
        self.wanted, self._read = (indices, context), partial(dataset.read, indices, context)
        self._found: tuple[NDArray[np.int16], NDArray[np.uint8]] | Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._found = self._read()
        except Exception as error:  # any: ``result`` raises it, in the thread that wants the batch
            self._found = error

    def result(self) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """What ``SliceDataset.read`` returns or raises."""
        self.join()
        assert self._found is not None
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def shuffled(length: int, seed: int, start: int, count: int) -> list[int]:
    """Entries ``start`` to ``start + count`` of an endless order in which every epoch is a permutation of its own.

    No slice is dropped at the end of an epoch: a batch may reach into the next one.
    """
    return [int(_permutation(length, seed, at // length)[at % length]) for at in range(start, start + count)]


@lru_cache(maxsize=2)
def _permutation(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)
