"""SPADE: slices drawn by spatially-adaptive normalization, with no noise (Park et al. 2019)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth import weights
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods._gan import PAPER_TRAINING, SMALL_TRAINING, TINY_TRAINING, check_side
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.conditioning import one_hot
from ctsynth.networks.discriminators import MultiscaleDiscriminator, PatchDiscriminator
from ctsynth.networks.spade import SPADEGenerator, xavier_conv
from ctsynth.networks.spectral_norm import spectral_norm
from ctsynth.networks.vgg import VGG19
from ctsynth.randomness import BatchRNG
from ctsynth.schema import LabelContext, Multipliers, Weight, Width, check
from ctsynth.trainable import Batch

log = logging.getLogger(__name__)

SCALES = 2
"""Judges: one of the slice, one of its half."""

VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Weights of VGG-19's five taps, finest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SPADEOptions:
    """The networks' widths and the losses' weights; the defaults are the original's."""

    channels: Width = 64
    """Channels of the generator at its finest resolution."""

    multipliers: Multipliers = (16, 16, 8, 4, 2, 1)
    """The generator's channels at each resolution, as multiples of ``channels``, coarsest first. Sides must divide
    by 2 to the power of their number less one."""

    hidden: Width = 128
    """Channels of the hidden layer by which each SPADE reads the label map."""

    discriminator_channels: Width = 64
    """Channels of the discriminators' first layer."""

    feature_weight: Weight = 10.0
    """Weight of the distance between fake and real in the discriminators' layers."""

    vgg: Literal["auto", "yes", "no"] = "auto"
    """Whether fake and real are compared by VGG-19's features too; ``auto`` does where its weights are."""

    vgg_weight: Weight = 10.0
    """Weight of the distance between fake and real in VGG-19's layers."""

    ttur: bool = True
    """Two rates: the generator's half and the discriminator's double, with momentum 0; else one, with 0.5."""

    label_context: LabelContext = 0
    """Label maps of so many slices above and below that are read beside the slice's own."""

    def __post_init__(self) -> None:
        check(self)
        if not self.multipliers:
            raise UsageError("multipliers must be one or more numbers")


class SPADE(Method):
    """G(labels) against two D(labels, slice), held to the real slice by D's features and by VGG-19's."""

    title = "SPADE"
    Options = SPADEOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(training=PAPER_TRAINING),
        "small": Preset({"channels": 32, "discriminator_channels": 32}, SMALL_TRAINING),
        "tiny": Preset({"channels": 16, "hidden": 32, "discriminator_channels": 16}, TINY_TRAINING),
    }
    lr = 5e-4  # the paper's; the original's is 2e-4

    def __init__(self, options: SPADEOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        levels = len(options.multipliers)
        check_side(size, 2 ** (levels - 1))
        self.options, self.num_classes, self.label_context = options, num_classes, options.label_context
        self.generator = SPADEGenerator(
            self.label_maps * num_classes,
            channels=options.channels,
            multipliers=options.multipliers,
            blocks=(1, 2, *[1] * levels)[:levels],
            hidden=options.hidden,
        )
        judged = self.label_maps * num_classes + 1
        self.discriminator = MultiscaleDiscriminator(
            [
                PatchDiscriminator(_conv, nn.InstanceNorm2d, judged, options.discriminator_channels)
                for _ in range(SCALES)
            ]
        )
        self._vgg: tuple[VGG19, ...] = ()  # in a tuple, it is none of the method's modules and in no checkpoint

    @classmethod
    def resolve(cls, options: SPADEOptions) -> SPADEOptions:
        """Decides whether VGG-19 takes part; it never does with random weights.

        Raises:
            UsageError: It shall, and its weights are not here.
        """
        reason = "" if options.vgg == "no" else weights.missing("vgg19")
        if options.vgg == "yes" and reason:
            raise UsageError(f"no VGG-19 weights for vgg = yes: {reason}", hint=weights.remedy("vgg19"))
        if reason:
            log.warning("SPADE trains without VGG-19's loss: %s; to have it, %s", reason, weights.remedy("vgg19"))
        return replace(options, vgg="no" if reason or options.vgg == "no" else "yes")

    def phases(self) -> Iterable[Phase]:
        """The generator, then the discriminators, as in the original."""
        fast, slow, betas = (2.0, 0.5, (0.0, 0.9)) if self.options.ttur else (1.0, 1.0, (0.5, 0.999))
        return (
            Phase("generator", list(self.generator.parameters()), slow * self.lr, betas),
            Phase("discriminator", list(self.discriminator.parameters()), fast * self.lr, betas),
        )

    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """The discriminators' hinge loss; the generator's, with the distances of features."""
        assert self.options.vgg != "auto", "resolve decides"
        segmap = one_hot(batch.labels, self.num_classes)
        if phase == "discriminator":
            with torch.no_grad():
                fake = self._slices(segmap)
            logits = [layers[-1] for layers in self._judge(segmap, fake, batch.image)]
            terms = {
                "fake": _mean([F.relu(1 + on_fake).mean() for on_fake, _ in logits]),
                "real": _mean([F.relu(1 - on_real).mean() for _, on_real in logits]),
            }
            return {"loss": terms["fake"] + terms["real"], **terms}
        fake = self._slices(segmap)
        judged = self._judge(segmap, fake, batch.image)
        terms = {
            "adversarial": _mean([-layers[-1][0].mean() for layers in judged]),
            "features": _mean([_distance(layers[:-1]) for layers in judged]),
        }
        loss = terms["adversarial"] + self.options.feature_weight * terms["features"]
        if self.options.vgg == "yes":
            terms["vgg"] = self._perceptual(fake, batch.image)
            loss = loss + self.options.vgg_weight * terms["vgg"]
        return {"loss": loss, **terms}

    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: Sampler | None = None) -> Tensor:
        """Draws in one pass, without any draws."""
        return self._slices(one_hot(labels, self.num_classes))

    def _slices(self, segmap: Tensor) -> Tensor:
        """(B, 1, H, W) float32 in [-1, 1]."""
        return self.generator(segmap).float().tanh()

    def _judge(self, segmap: Tensor, fake: Tensor, real: Tensor) -> list[list[tuple[Tensor, ...]]]:
        """The float32 outputs of each scale and layer (on fake, on real), the logits last; both are one batch."""
        both = torch.cat([torch.cat([segmap, fake], dim=1), torch.cat([segmap, real], dim=1)])
        return [[output.float().chunk(2) for output in layers] for layers in self.discriminator(both)]

    def _perceptual(self, fake: Tensor, real: Tensor) -> Tensor:
        """The distance in VGG-19's layers, which is loaded at the first call."""
        if not self._vgg:
            self._vgg = (VGG19(weights.load("vgg19")).to(fake.device),)
        vgg = self._vgg[0]
        with torch.no_grad():
            on_real = vgg(real)
        return _distance(zip(vgg(fake), on_real, strict=True), VGG_WEIGHTS)


def _conv(in_channels: int, out_channels: int, stride: int, norm: bool) -> nn.Module:
    """Spectrally normalized and without a bias where a norm follows; padded by 2, not by Pix2Pix's 1."""
    layer = xavier_conv(in_channels, out_channels, 4, stride=stride, padding=2, bias=not norm)
    return spectral_norm(layer) if norm else layer


def _distance(layers: Iterable[tuple[Tensor, ...]], layer_weights: tuple[float, ...] = (1.0,) * 4) -> Tensor:
    """The weighted sum of the layers' mean absolute differences (fake, real); real is held fixed."""
    pairs = zip(layer_weights, layers, strict=True)
    return torch.stack([w * F.l1_loss(fake.float(), real.detach().float()) for w, (fake, real) in pairs]).sum()


def _mean(terms: list[Tensor]) -> Tensor:
    """Over scales."""
    return torch.stack(terms).mean()
