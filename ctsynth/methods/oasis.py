"""OASIS: slices of noise and label map, judged pixel by pixel by a segmenter (Schönfeld et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor

from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods._gan import PAPER_TRAINING, SMALL_TRAINING, TINY_TRAINING, check_side
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.conditioning import one_hot
from ctsynth.networks.segmentation_discriminator import SegmentationDiscriminator
from ctsynth.networks.spade import SPADEGenerator
from ctsynth.randomness import BatchRNG
from ctsynth.schema import LabelContext, Multipliers, Range, Weight, Width, check
from ctsynth.trainable import Batch

NOISE = 64
"""Length of z, which every pixel gets beside its class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OASISOptions:
    """The networks' widths and the weight of LabelMix; the defaults are the original's."""

    channels: Width = 64
    """Channels of the generator at its finest resolution."""

    multipliers: Multipliers = (16, 16, 8, 4, 2, 1)
    """The generator's channels at each resolution, as multiples of ``channels``, coarsest first. The discriminator
    has as many levels and halves once more often, so that sides must divide by 2 to the power of their number."""

    hidden: Width = 128
    """Channels of the hidden layer by which each SPADE reads the label map."""

    discriminator_channels: Annotated[int, Range(2, 8192)] = 128
    """Channels of the discriminator's first two levels; they double at every second one."""

    labelmix_weight: Weight = 10.0
    """Weight of LabelMix, which wants a mixed slice judged as the mix of the judgments."""

    label_context: LabelContext = 0
    """Label maps of so many slices above and below that are read beside the slice's own."""

    def __post_init__(self) -> None:
        check(self)
        if not self.multipliers:
            raise UsageError("multipliers must be one or more numbers")


class OASIS(Method):
    """G(z, labels) against D(slice), which names every pixel's class or says that it is fake."""

    title = "OASIS"
    Options = OASISOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(training=PAPER_TRAINING),
        "small": Preset({"channels": 32, "discriminator_channels": 64}, SMALL_TRAINING),
        "tiny": Preset({"channels": 16, "hidden": 32, "discriminator_channels": 16}, TINY_TRAINING),
    }
    lr = 4e-4  # the discriminator's; the generator's is a quarter of it

    def __init__(self, options: OASISOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        levels = len(options.multipliers)
        check_side(size, 2**levels)
        self.options, self.num_classes, self.label_context = options, num_classes, options.label_context
        self.generator = SPADEGenerator(
            NOISE + self.label_maps * num_classes,
            channels=options.channels,
            multipliers=options.multipliers,
            blocks=(1,) * levels,
            hidden=options.hidden,
        )
        self.discriminator = SegmentationDiscriminator(num_classes, options.discriminator_channels, levels)

    def phases(self) -> Iterable[Phase]:
        """The generator, then the discriminator, as in the original."""
        betas = (0.0, 0.999)
        return (
            Phase("generator", list(self.generator.parameters()), self.lr / 4, betas),
            Phase("discriminator", list(self.discriminator.parameters()), self.lr, betas),
        )

    def totals(self, phase: str, batch: Batch, rng: BatchRNG) -> Tensor:
        """Pixels of each class: (num_classes,)."""
        return one_hot(batch.own_labels, self.num_classes).sum((0, 2, 3))

    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """Cross-entropy of fake and real pixels and LabelMix; the generator's, as if its pixels were real."""
        segmap, noise = one_hot(batch.labels, self.num_classes), rng.normal("z", (NOISE,))
        labels = batch.own_labels
        own = segmap.chunk(self.label_maps, dim=1)[self.label_context]
        pixels = own.sum((0, 2, 3)) if batch.totals is None else batch.totals
        weights = class_weights(pixels)[labels]
        if phase == "generator":
            judged = self._judge(self._slices(segmap, noise))
            return {"loss": _cross_entropy(judged, labels + 1, weights)}
        with torch.no_grad():
            fake = self._slices(segmap, noise)
        judged_fake = self._judge(fake)
        judged_real = self._judge(batch.image)
        is_real = labelmix_mask(labels, self.num_classes, rng)
        judged_mix = self._judge(torch.where(is_real, batch.image, fake))
        terms = {
            "fake": _cross_entropy(judged_fake, torch.zeros_like(labels)),
            "real": _cross_entropy(judged_real, labels + 1, weights),
            "labelmix": F.mse_loss(judged_mix, torch.where(is_real, judged_real, judged_fake)),
        }
        return {"loss": terms["fake"] + terms["real"] + self.options.labelmix_weight * terms["labelmix"], **terms}

    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: Sampler | None = None) -> Tensor:
        """Draws in one pass, with one z a volume where the draws are those of a volume."""
        return self._slices(one_hot(labels, self.num_classes), rng.shared("z", (NOISE,)))

    def _slices(self, segmap: Tensor, noise: Tensor) -> Tensor:
        """(B, 1, H, W) float32 in [-1, 1]."""
        everywhere = noise[..., None, None].expand(-1, -1, *segmap.shape[-2:])
        return self.generator(torch.cat([everywhere, segmap], dim=1)).float().tanh()

    def _judge(self, image: Tensor) -> Tensor:
        """(B, 1 + num_classes, H, W) float32 logits: fake, then the classes."""
        return self.discriminator(image).float()


def class_weights(pixels: Tensor) -> Tensor:
    """Inversely proportional to a class's pixels; their mean over all pixels is 1 (Sec. 3.2).

    Shapes:
        pixels: (num_classes,), of each class in the whole batch; a class may be absent, and has a finite weight.
        returns: (num_classes,).
    """
    present = (pixels > 0).sum()
    return pixels.sum() / (pixels.clamp(min=1) * present)


def labelmix_mask(labels: Tensor, num_classes: int, rng: BatchRNG) -> Tensor:
    """Real or fake for each class, each as likely, the same for all slices of a batch (Sec. 3.2).

    Shapes:
        labels: (B, H, W) int64.
        returns: (B, 1, H, W) bool, where the real slice is taken.
    """
    is_real = rng.shared("labelmix", (num_classes,)) > 0
    return is_real.gather(1, labels.flatten(1)).view(labels.shape)[:, None]


def _cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted cross-entropy of every pixel, averaged over pixels and slices."""
    loss = F.cross_entropy(logits, target, reduction="none")
    return (loss if weights is None else loss * weights).mean()
