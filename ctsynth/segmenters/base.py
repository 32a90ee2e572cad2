"""What a segmenter is: one file of this package that defines one subclass of ``Segmenter``."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch, Phase, Preset, TrainableModel

__all__ = ["Phase", "Preset", "Segmenter"]


class Segmenter(TrainableModel):
    """Learns label maps from real slices, by the same loop that a method learns slices from label maps with."""

    knows_tissues = False

    @abstractmethod
    def segment(self, image: Tensor) -> Tensor:
        """The label map of each slice: (B, 1, H, W) in [-1, 1] to (B, H, W) int64."""

    def features(self, image: Tensor) -> Tensor:
        """What the network knows of each slice, for scores that compare features: (B, 1, H, W) to (B, d).

        Raises:
            NotImplementedError: It is a segmenter that does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} has no features")

    def predict(self, batch: Batch, rng: BatchRNG) -> Tensor:
        """The label maps of the batch's real slices."""
        return self.segment(batch.image)
