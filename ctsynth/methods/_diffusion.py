"""What the conditional diffusion models share: all but how they read the label map."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from ctsynth.diffusion.conditioners import (
    Conditioner,
    Conditioning,
    EdgeConditioner,
    MaskConditioner,
    MaskEncoding,
)
from ctsynth.diffusion.process import GaussianDiffusion, Prediction
from ctsynth.diffusion.samplers import SAMPLERS, Denoiser, SamplerConfig
from ctsynth.diffusion.schedule import SCHEDULES
from ctsynth.errors import UsageError
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.blocks import ResBlock
from ctsynth.networks.conditioning import from_patches, to_patches
from ctsynth.networks.dropout import seed_dropout
from ctsynth.networks.unet import UNet
from ctsynth.randomness import BatchRNG
from ctsynth.schema import Multipliers, Range, Share, Width, check
from ctsynth.trainable import Batch

log = logging.getLogger(__name__)

LR = 1e-4
"""The paper's, for every diffusion model."""

EARLY = 50_000
"""Steps before which a sheet of an epsilon model says that it is early; the paper's first checkpoint shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionOptions:
    """The denoiser and its process; the defaults are improved-diffusion's at 256 x 256, as in the paper."""

    channels: Width = 128
    """Channels of the U-Net's finest level."""

    multipliers: Multipliers = (1, 1, 2, 2, 4, 4)
    """Channels of each level, as multiples."""

    res_blocks: Annotated[int, Range(1, 64)] = 2
    """Residual blocks a level."""

    attention: tuple[int, ...] = (16, 8)
    """Sides of the feature maps that have self-attention."""

    heads: Annotated[int, Range(0, 8192)] = 4
    """Attention heads; 0 where ``head_channels`` says how many."""

    head_channels: Annotated[int, Range(0, 8192)] = 0
    """Channels of an attention head; 0 where ``heads`` says how many."""

    resblock_updown: bool = False
    """Change the resolution in residual blocks, as guided-diffusion does, and not with a convolution."""

    dropout: Share = 0.0
    """Rate in the residual blocks."""

    patch: Annotated[int, Range(1, 64)] = 1
    """Side of the pixel squares that are folded into channels; 2 halves the resolution that the U-Net works at."""

    prediction: Prediction = "epsilon"
    """What the network predicts."""

    schedule: Literal["linear", "cosine"] = "linear"
    """How the noise grows."""

    timesteps: Annotated[int, Range(20, 1_000_000, above=True)] = 1000
    """T. A linear schedule's last beta is 20 / T."""

    mask_encoding: MaskEncoding = "onehot"
    """One channel a class, or the class id in one channel."""

    label_dropout: Share = 0.0
    """Share of training slices whose label map is the null map, which ``--guidance`` needs; SDM's is 0.2."""

    def __post_init__(self) -> None:
        check(self)
        if not self.multipliers:
            raise UsageError("multipliers must be one or more numbers")
        if min(self.heads, self.head_channels) != 0 or max(self.heads, self.head_channels) < 1:
            raise UsageError(
                f"of heads ({self.heads}) and head_channels ({self.head_channels}) one must be 0, the other above"
            )
        by = "heads" if self.heads else "head_channels"
        if self.channels < 4 or self.channels % 4 or self.channels % getattr(self, by):
            raise UsageError(
                f"channels must divide by 4 and by {by} ({getattr(self, by)}), not be {self.channels}"
            )
        if self.label_dropout and self.mask_encoding == "index":
            raise UsageError(
                "label_dropout goes with mask_encoding onehot only: in index, zeros are a class and no null map"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedOptions(DiffusionOptions):
    """The same with an encoder for the mask or its edges."""

    encoder_channels: Width = 64
    """Channels of that encoder's finest level; the paper does not say."""

    def __post_init__(self) -> None:
        DiffusionOptions.__post_init__(self)  # super() does not find it in a class with slots
        if len(self.multipliers) < 2:
            raise UsageError("multipliers must be two or more: the mask joins where the network downsamples")
        if self.encoder_channels < 4 or self.encoder_channels % 4:
            raise UsageError(f"encoder_channels must divide by 4, not be {self.encoder_channels}")


_SMALL = {
    "channels": 64,
    "multipliers": (1, 2, 3, 4),
    "attention": (16,),
    "patch": 2,
    "prediction": "v",
    "schedule": "cosine",
}
_TINY = {
    "channels": 32,
    "multipliers": (1, 2, 2),
    "res_blocks": 1,
    "attention": (8,),
    "patch": 2,
    "prediction": "v",
    "schedule": "cosine",
}
_SMALL_TRAINING = {
    "iterations": 20_000, "batch_size": 8, "lr": 5e-4, "betas": (0.9, 0.99), "lr_schedule": "cosine",
    "warmup": 200, "clip_norm": 1.0, "ema": 0.999, "save_every": 1000, "keep_every": 5000, "sample_every": 1000,
}  # fmt: skip
_TINY_TRAINING = {
    "iterations": 1000, "batch_size": 8, "lr": 2e-3, "betas": (0.9, 0.99), "lr_schedule": "cosine", "warmup": 30,
    "clip_norm": 1.0, "ema": 0.999, "save_every": 250, "keep_every": 250, "sample_every": 250, "log_every": 10,
    "tissue_dropout": 0.7,  # in 1000 steps a fifth would be too few to learn to draw from the body
}  # fmt: skip

PRESETS = {"paper": Preset(), "small": Preset(_SMALL, _SMALL_TRAINING), "tiny": Preset(_TINY, _TINY_TRAINING)}
GUIDED_PRESETS = {
    "paper": Preset(),
    "small": Preset({**_SMALL, "encoder_channels": 32}, _SMALL_TRAINING),
    "tiny": Preset({**_TINY, "encoder_channels": 16}, _TINY_TRAINING),
}


def _attention_levels(options: DiffusionOptions, size: int) -> list[int]:
    """The levels whose feature maps have a side of ``attention``; the log says which sides none has."""
    sides = [size // options.patch // 2**level for level in range(len(options.multipliers))]
    if missing := [side for side in options.attention if side not in sides]:
        log.warning(
            "attention: no feature map has a side of %s; at slices of %d x %d theirs are %s",
            " or ".join(map(str, missing)), size, size, ", ".join(map(str, sides)),
        )  # fmt: skip
    return [level for level, side in enumerate(sides) if side in options.attention]


class DiffusionMethod(Method):
    """A denoising diffusion model on label maps; a subclass says how it reads them, in ``conditioner``."""

    Options = DiffusionOptions
    presets: ClassVar[Mapping[str, Preset]] = PRESETS
    samplers = tuple(SAMPLERS)
    blocks = (ResBlock,)

    def __init__(self, options: DiffusionOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.options = options
        factor = options.patch * 2 ** (len(options.multipliers) - 1)
        if size % factor:
            raise UsageError(
                f"slices of {size} x {size} do not suit this network: the side must divide by {factor}"
            )
        self.process = GaussianDiffusion(SCHEDULES[options.schedule](options.timesteps), options.prediction)
        self.conditioner = self.make_conditioner(num_classes)
        pixels = options.patch**2
        self.unet = UNet(
            pixels + self.conditioner.concat_channels,
            2 * pixels,
            channels=options.channels,
            multipliers=options.multipliers,
            res_blocks=options.res_blocks,
            attention_levels=_attention_levels(options, size),
            heads=options.heads,
            head_channels=options.head_channels,
            dropout=options.dropout,
            resblock_updown=options.resblock_updown,
            feature_channels=self.conditioner.feature_channels,
            segmap_channels=self.conditioner.segmap_channels,
        )

    @abstractmethod
    def make_conditioner(self, num_classes: int) -> Conditioner:
        """How this model reads the label map."""

    def phases(self) -> Iterable[Phase]:
        """One: the denoiser with its conditioner."""
        return (Phase("denoiser", list(self.parameters()), LR),)

    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """The hybrid loss at uniformly drawn timesteps, and its two terms."""
        seed_dropout(self.unet, rng)
        rate = self.options.label_dropout
        kept = rng.uniform("label dropout") >= rate if rate else None
        timesteps = rng.integers("timestep", self.process.schedule.num_timesteps)
        noise = rng.normal("noise", batch.image.shape[1:])
        x_t = self.process.q_sample(batch.image, timesteps, noise)
        output = self._output(x_t, timesteps, self.conditioner(batch.labels, kept))
        terms = self.process.training_losses(output, batch.image, x_t, timesteps, noise)
        return {name: term.mean() for name, term in terms.items()}

    def check(self, sampler: SamplerConfig) -> None:
        """More steps than T, and guidance of a model that was never trained without label maps."""
        sampler.check(self.process.schedule)
        if sampler.guidance != 1 and not self.options.label_dropout:
            raise UsageError(
                f"--guidance {sampler.guidance:g} needs a model trained with label dropout; this one was not",
                hint="train one with --set label_dropout=0.2 or, for sdm, --preset guided",
            )

    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: SamplerConfig | None = None) -> Tensor:
        """Denoises from pure noise; the label map is encoded once for all steps.

        Raises:
            UsageError: As ``check``.
        """
        run = sampler or SamplerConfig()
        self.check(run)
        denoise = self.denoiser(labels, run.guidance)
        shape = (1, *labels.shape[1:])
        noise = rng.normal("start", shape)
        return run(denoise, self.process.schedule, noise, lambda timestep: rng.normal(timestep, shape)).clamp(
            -1, 1
        )

    def denoiser(self, labels: Tensor, guidance: float = 1.0) -> Denoiser:
        """Estimates x_0 and v for these label maps, with classifier-free guidance of that scale.

        Where it is not 1, the label maps and the null map are denoised in one batch of twice the size, and the
        prediction is null + guidance (prediction - null) (Ho & Salimans 2022, Eq. 6, with w = guidance - 1). At a
        given x_t both ``epsilon`` and ``v`` are affine in the score, so it is the same guidance for either. The
        variance is that of the label maps: it is no score to extrapolate.
        """
        guided = guidance != 1
        count, copies = len(labels), 2 if guided else 1
        kept = torch.arange(copies * count, device=labels.device) < count if guided else None
        conditioning = self.conditioner(labels.repeat(copies, 1, 1), kept)

        def denoise(x_t: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
            output = self._output(x_t.repeat(copies, 1, 1, 1), timesteps.repeat(copies), conditioning)
            predicted, v = output[:count].chunk(2, dim=1)
            if guided:
                null = output[count:, :1]
                predicted = null + guidance * (predicted - null)
            return self.process.predict_x0(predicted, x_t, timesteps), v

        return denoise

    def caution(self, step: int) -> str:
        """Early samples of an epsilon model are noise: errors are multiplied by up to 1 / sqrt(alphas_cumprod)."""
        if self.options.prediction == "epsilon" and step < EARLY:
            return (
                "early: epsilon-prediction leaves noise and a wrong brightness"
                f" well before step {EARLY:,}; train on"
            )
        return ""

    def _output(self, x_t: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """(B, 2, H, W) float32: the prediction and v."""
        patch = self.options.patch
        folded = to_patches(x_t, patch)
        if conditioning.concat is not None:
            folded = torch.cat([folded, conditioning.concat], dim=1)
        output = self.unet(folded, timesteps, conditioning.features, conditioning.segmap)
        predicted, v = output.float().chunk(2, dim=1)
        return torch.cat([from_patches(predicted, patch), from_patches(v, patch)], dim=1)


class GuidedMethod(DiffusionMethod):
    """A diffusion model with a second encoder, as deep and as wide in proportion as the U-Net's own.

    Attributes:
        conditioner_type: What that encoder reads.
    """

    Options = GuidedOptions
    presets: ClassVar[Mapping[str, Preset]] = GUIDED_PRESETS
    conditioner_type: ClassVar[type[MaskConditioner | EdgeConditioner]]
    options: GuidedOptions

    def make_conditioner(self, num_classes: int) -> Conditioner:
        """An encoder with one feature map for each level that the U-Net downsamples."""
        options = self.options
        return self.conditioner_type(
            num_classes,
            options.encoder_channels,
            options.multipliers[:-1],
            options.res_blocks,
            options.mask_encoding,
            options.patch,
        )
