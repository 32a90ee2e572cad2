"""Pix2Pix: a U-Net against a judge of patches, held to the real slice by L1 (Isola et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods._gan import PAPER_TRAINING, SMALL_TRAINING, TINY_TRAINING, check_side
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.conditioning import one_hot
from ctsynth.networks.discriminators import PatchDiscriminator
from ctsynth.networks.generators import UNetGenerator
from ctsynth.randomness import BatchRNG
from ctsynth.schema import LabelContext, Weight, Width, check
from ctsynth.trainable import Batch

DEPTH = 8
"""Most levels of the generator: 256 x 256 to a point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pix2PixOptions:
    """The networks' widths and the weight of L1; the defaults are the original's."""

    channels: Width = 64
    """Channels of the generator's first level."""

    discriminator_channels: Width = 64
    """Channels of the discriminator's first layer."""

    l1_weight: Weight = 100.0
    """Weight of the mean absolute difference from the real slice."""

    label_context: LabelContext = 0
    """Label maps of so many slices above and below that are read beside the slice's own."""

    def __post_init__(self) -> None:
        check(self)


class Pix2Pix(Method):
    """G(labels) against D(labels, slice), with dropout for noise.

    Attributes:
        pix2pix_test: How slices are drawn. ``eval``: with the training set's statistics and no dropout, so that a
            label map has one slice. ``original``: as the original's test.lua does with its batch of one slice,
            with dropout and each slice's own statistics.
    """

    title = "Pix2Pix"
    Options = Pix2PixOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(training=PAPER_TRAINING),
        "small": Preset({"channels": 32, "discriminator_channels": 32}, SMALL_TRAINING),
        "tiny": Preset({"channels": 16, "discriminator_channels": 16}, TINY_TRAINING),
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"pix2pix_test": ("eval", "original")}
    lr = 5e-4  # the paper's; the original's is 2e-4

    def __init__(self, options: Pix2PixOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.options, self.num_classes, self.label_context = options, num_classes, options.label_context
        self.generator = UNetGenerator(self.label_maps * num_classes, options.channels, _depth(size))
        self.discriminator = PatchDiscriminator(
            _conv, nn.BatchNorm2d, self.label_maps * num_classes + 1, options.discriminator_channels
        )
        self.apply(_initialize)

    def phases(self) -> Iterable[Phase]:
        """The discriminator, then the generator, as in the original."""
        betas = (0.5, 0.999)
        return (
            Phase("discriminator", list(self.discriminator.parameters()), self.lr, betas),
            Phase("generator", list(self.generator.parameters()), self.lr, betas),
        )

    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """The discriminator's cross-entropy on real and fake; the generator's as real, and its weighted L1."""
        segmap = one_hot(batch.labels, self.num_classes)
        fake = self._fake(segmap, batch, rng)
        if phase == "discriminator":
            fake = fake.detach()
            # one by one, for the fake must not be normalized by the real's statistics
            terms = {
                "real": _cross_entropy(self._judge(segmap, batch.image), is_real=True),
                "fake": _cross_entropy(self._judge(segmap, fake), is_real=False),
            }
            return {"loss": terms["real"] + terms["fake"], **terms}
        adversarial = _cross_entropy(self._judge(segmap, fake), is_real=True)
        l1 = F.l1_loss(fake, batch.image)
        return {"loss": adversarial + self.options.l1_weight * l1, "adversarial": adversarial, "l1": l1}

    def generate(
        self, labels: Tensor, *, rng: BatchRNG, sampler: Sampler | None = None, pix2pix_test: str = "eval"
    ) -> Tensor:
        """Draws in one pass; ``rng`` matters where ``pix2pix_test`` is ``original``."""
        segmap = one_hot(labels, self.num_classes)
        if pix2pix_test == "original":
            return self._slices(segmap, self._dropout(labels.shape[-1], rng), per_slice=True)
        return self._slices(segmap)

    def _fake(self, segmap: Tensor, batch: Batch, rng: BatchRNG) -> Tensor:
        """The generator's slice in training; both phases judge the same one, as in the original, if they may."""
        if batch.fake is not None and batch.fake.slices is not None:
            return batch.fake.slices
        if batch.fake is not None:
            self.generator.requires_grad_(True)  # frozen while the discriminator learns, which comes first
        fake = self._slices(segmap, self._dropout(batch.labels.shape[-1], rng))
        if batch.fake is not None:
            batch.fake.slices = fake
        return fake

    def _dropout(self, side: int, rng: BatchRNG) -> list[Tensor]:
        """Masks of 0 and 2, each as likely; smooth along z where the draws are."""
        shapes = enumerate(self.generator.mask_shapes(side))
        return [2.0 * (rng.normal(f"dropout {number}", shape) > 0) for number, shape in shapes]

    def _slices(self, segmap: Tensor, masks: list[Tensor] | None = None, *, per_slice: bool = False) -> Tensor:
        """(B, 1, H, W) float32 in [-1, 1]."""
        return self.generator(segmap, masks, per_slice=per_slice).float().tanh()

    def _judge(self, segmap: Tensor, image: Tensor) -> Tensor:
        """(B, 1, about H / 8, about W / 8) float32 logits."""
        return self.discriminator(torch.cat([segmap, image], dim=1))[-1].float()


def _depth(size: int) -> int:
    """How often a side of that many pixels divides by two, at most as often as the original's 256.

    Raises:
        UsageError: Fewer than four times, or no patch is left to judge.
    """
    check_side(size, 16)
    if size < 32:
        raise UsageError(f"slices of {size} x {size} do not suit this network: the side must be at least 32")
    return min(DEPTH, (size & -size).bit_length() - 1)


def _conv(in_channels: int, out_channels: int, stride: int, norm: bool) -> nn.Module:
    """Without a bias even where no norm follows: the original sets all of them to zero before each step."""
    return nn.Conv2d(in_channels, out_channels, 4, stride=stride, padding=1, bias=False)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _cross_entropy(logits: Tensor, *, is_real: bool) -> Tensor:
    """Cross-entropy of the judgment against ``is_real``, averaged over patches and slices."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(is_real)))
