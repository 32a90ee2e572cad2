"""A U-Net that predicts the slice from its label map: the mean of all slices that would fit, hence blurred."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ctsynth.diffusion.samplers import Sampler
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.conditioning import one_hot
from ctsynth.networks.segmentation_unet import SegmentationUNet
from ctsynth.randomness import BatchRNG
from ctsynth.schema import Share, Width, check
from ctsynth.trainable import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class RegressionOptions:
    """The network's width, and how much of the loss is the squared error."""

    channels: Width = 64
    """Channels of the U-Net's finest level."""

    squared: Share = 0.0
    """Share of the squared error in the loss; the rest is the absolute one."""

    def __post_init__(self) -> None:
        check(self)


class Regression(Method):
    """f(labels), trained by its distance from the real slice."""

    title = "Regression"
    Options = RegressionOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(),
        "small": Preset({"channels": 16}, {"iterations": 5000, "batch_size": 8, "lr": 1e-3}),
    }

    def __init__(self, options: RegressionOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.options, self.num_classes = options, num_classes
        self.unet = SegmentationUNet(num_classes, 1, channels=options.channels, multipliers=(1, 2, 4, 4))

    def phases(self) -> Iterable[Phase]:
        """One optimizer for all parameters."""
        return (Phase("unet", list(self.parameters()), self.lr),)

    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """The mean distance over the batch, and its two terms for metrics.jsonl."""
        error = self._predict(batch.labels) - batch.image
        absolute, squared = error.abs().mean(), error.square().mean()
        share = self.options.squared
        return {"loss": (1 - share) * absolute + share * squared, "absolute": absolute, "squared": squared}

    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: Sampler | None = None) -> Tensor:
        """(B, H, W) int64 to (B, 1, H, W) in [-1, 1]; nothing is random."""
        return self._predict(labels)

    def _predict(self, labels: Tensor) -> Tensor:
        return self.unet(one_hot(labels, self.num_classes)).float().tanh()
