"""A small 2-D U-Net: the stand-in where TotalSegmentator cannot be had, or should not be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor

from ctsynth.errors import UsageError
from ctsynth.networks.dropout import seed_dropout
from ctsynth.networks.segmentation_unet import SegmentationUNet
from ctsynth.randomness import BatchRNG
from ctsynth.schema import Multipliers, Range, Share, Weight, Width, check
from ctsynth.segmenters._augmentation import augment, cutmix
from ctsynth.segmenters.base import Phase, Preset, Segmenter
from ctsynth.trainable import Batch

_FALLING = {"lr_schedule": "cosine", "clip_norm": 1.0}
_SMALL_TRAINING = _FALLING | {
    "iterations": 5000, "batch_size": 8, "warmup": 100, "ema": 0.999,
    "save_every": 1000, "keep_every": 5000, "sample_every": 1000,
}  # fmt: skip
_TINY_TRAINING = _FALLING | {
    "iterations": 800, "batch_size": 4, "lr": 1e-2, "warmup": 20, "ema": 0.999,
    "save_every": 250, "keep_every": 250, "sample_every": 250, "log_every": 10,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class UNet2DOptions:
    """The network and what it learns from."""

    channels: Width = 32
    """Channels of the first level."""

    multipliers: Multipliers = (1, 2, 4, 8, 8)
    """Channels of each level, as multiples of ``channels``, finest first."""

    dropout: Share = 0.0
    """Rate in each residual block."""

    dice_weight: Weight = 1.0
    """Weight of the soft Dice beside the cross-entropy."""

    augmentation: Weight = 1.0
    """How strongly slices are moved and changed at random; 0 does not."""

    cutmix: Annotated[float, Range(0, 1)] = 0.0
    """Share of slices that get a box of another slice of the batch."""

    def __post_init__(self) -> None:
        check(self)
        if self.channels % 4:
            raise UsageError(f"channels must divide by 4, not {self.channels}")
        if not self.multipliers:
            raise UsageError("multipliers must be one or more numbers")


class UNet2D(Segmenter):
    """Cross-entropy and soft Dice on 2-D slices, after nnU-Net (Isensee et al. 2021)."""

    title = "2-D U-Net"
    Options = UNet2DOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(training=_FALLING | {"iterations": 30_000, "warmup": 500}),
        "small": Preset({"channels": 16}, _SMALL_TRAINING),
        "tiny": Preset({"channels": 16, "multipliers": (1, 2, 4, 8), "augmentation": 0.25}, _TINY_TRAINING),
    }
    lr = 2e-3

    def __init__(self, options: UNet2DOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.options, self.num_classes = options, num_classes
        factor = 2 ** (len(options.multipliers) - 1)
        if size % factor:
            raise UsageError(
                f"slices of {size} x {size} do not suit this network: the side must divide by {factor}",
                hint="say fewer levels, as `set` multipliers=[1,2,4]",
            )
        self.network = SegmentationUNet(
            1, num_classes, channels=options.channels, multipliers=options.multipliers, dropout=options.dropout
        )

    def phases(self) -> Iterable[Phase]:
        """One."""
        return (Phase("segmenter", list(self.network.parameters()), self.lr, (0.9, 0.99)),)

    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """Weighted cross-entropy of all classes, and 1 - soft Dice of the organs that the batch shows."""
        logits, labels = self._logits(batch, rng)
        sums = overlaps(logits, labels)
        if batch.totals is not None:
            sums = _within(batch.totals, sums)
        weight = _class_weights(sums[2].detach())
        cross_entropy = F.cross_entropy(logits, labels, weight=weight, reduction="none").mean()
        terms = {"cross_entropy": cross_entropy, "dice": 1 - soft_dice(sums)}
        return {"loss": terms["cross_entropy"] + self.options.dice_weight * terms["dice"], **terms}

    def totals(self, phase: str, batch: Batch, rng: BatchRNG) -> Tensor:
        """What soft Dice and class weights are made of: the sums of ``overlaps``."""
        return overlaps(*self._logits(batch, rng))

    def _logits(self, batch: Batch, rng: BatchRNG) -> tuple[Tensor, Tensor]:
        """(B, num_classes, H, W) float32 of the augmented slices, and their labels."""
        image, labels = augment(batch, rng, self.options.augmentation)
        image, labels = cutmix(image, labels, rng, self.options.cutmix)
        seed_dropout(self.network, rng)
        return self.network(image).float(), labels

    def segment(self, image: Tensor) -> Tensor:
        """The likeliest class of each pixel."""
        return self.network(image).argmax(dim=1)

    def features(self, image: Tensor) -> Tensor:
        """The mean over the slice of the coarsest level."""
        coarsest: Tensor = self.network.encode(image)[-1]
        return coarsest.mean(dim=(2, 3))


def _class_weights(pixels: Tensor) -> Tensor:
    """1 / sqrt(pixels of the class), as multiples of the mean over pixels.

    Without them a short training ends before it has found a small organ: the cross-entropy makes it improbable
    everywhere at once, and from there the Dice's gradient is nearly zero.
    """
    weight = pixels.clamp(min=1).rsqrt()
    return weight * pixels.sum() / (weight * pixels).sum()


def overlaps(logits: Tensor, labels: Tensor) -> Tensor:
    """sum(p y), sum(p) and sum(y) of each class over all pixels; y is 1 where the class is, p its probability.

    Shapes:
        logits: (B, num_classes, H, W).
        labels: (B, H, W).
        returns: (3, num_classes).
    """
    given = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
    found = logits.softmax(dim=1)
    return torch.stack([(found * given).sum((0, 2, 3)), found.sum((0, 2, 3)), given.sum((0, 2, 3))])


def _within(totals: Tensor, sums: Tensor) -> Tensor:
    """The whole batch's overlaps, with the gradient of a part's own, as if the others were like it.

    The mean over parts of what that gives is the gradient of the whole.
    """
    parts = totals[2].sum() / sums[2].sum()
    return totals + parts * (sums - sums.detach())


def soft_dice(sums: Tensor) -> Tensor:
    """Mean over the organs that the batch shows of 2 sum(p y) / (sum(p) + sum(y)); 0 where there is no organ.

    Background, id 0, and body, the last id, are no organs.

    Shapes:
        sums: (3, num_classes), of ``overlaps``.
    """
    both, got, wanted = sums[:, 1:-1]
    return (2 * both / (got + wanted + 1e-5)).sum() / (wanted > 0).sum().clamp(min=1)
