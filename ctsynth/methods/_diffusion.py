"""What the conditional diffusion models share: all but how they read the label map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ctsynth.batch import Batch
from ctsynth.diffusion.conditioners import (
    Conditioner,
    Conditioning,
    EdgeConditioner,
    MaskConditioner,
    MaskEncoding,
)
from ctsynth.diffusion.process import GaussianDiffusion, Prediction
from ctsynth.diffusion.samplers import SAMPLERS, SamplerConfig
from ctsynth.diffusion.schedule import SCHEDULES
from ctsynth.errors import UsageError
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.conditioning import from_patches, to_patches
from ctsynth.networks.unet import UNet
from ctsynth.randomness import Draws

LR = 1e-4
"""The paper's, for every diffusion model."""

EARLY = 50_000
"""Steps before which a sheet of an epsilon model says that it is early; the paper's first checkpoint shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionOptions:
    """The denoiser and its process; the defaults are improved-diffusion's at 256 x 256, as in the paper."""

    channels: int = 128
    """Channels of the U-Net's finest level."""

    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Channels of each level, as multiples."""

    res_blocks: int = 2
    """Residual blocks a level."""

    attention: tuple[int, ...] = (16, 8)
    """Sides of the feature maps that have self-attention."""

    heads: int = 4
    """Attention heads."""

    dropout: float = 0.0
    """Rate in the residual blocks."""

    patch: int = 1
    """Side of the pixel squares that are folded into channels; 2 halves the resolution that the U-Net works at."""

    prediction: Prediction = "epsilon"
    """What the network predicts."""

    schedule: Literal["linear", "cosine"] = "linear"
    """How the noise grows."""

    timesteps: int = 1000
    """T."""

    mask_encoding: MaskEncoding = "onehot"
    """One channel a class, or the class id in one channel."""

    def __post_init__(self) -> None:
        if self.timesteps <= 20:  # a linear schedule's last beta is 20 / T
            raise UsageError(f"timesteps must be above 20, not {self.timesteps}")
        for name in ("res_blocks", "heads", "patch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise UsageError(f"multipliers must be one or more numbers of at least 1, not {self.multipliers}")
        if self.channels < 4 or self.channels % 4 or self.channels % self.heads:
            raise UsageError(f"channels must divide by 4 and by heads ({self.heads}), not be {self.channels}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be within [0, 1), not {self.dropout}")


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedOptions(DiffusionOptions):
    """The same with an encoder for the mask or its edges."""

    encoder_channels: int = 64
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
}  # fmt: skip

PRESETS = {"paper": Preset(), "small": Preset(_SMALL, _SMALL_TRAINING), "tiny": Preset(_TINY, _TINY_TRAINING)}
GUIDED_PRESETS = {
    "paper": Preset(),
    "small": Preset({**_SMALL, "encoder_channels": 32}, _SMALL_TRAINING),
    "tiny": Preset({**_TINY, "encoder_channels": 16}, _TINY_TRAINING),
}


class DiffusionMethod(Method):
    """A denoising diffusion model on label maps; a subclass says how it reads them, in ``conditioner``."""

    Options = DiffusionOptions
    presets: ClassVar[Mapping[str, Preset]] = PRESETS
    samplers = tuple(SAMPLERS)

    def __init__(self, options: DiffusionOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.options = options
        levels = len(options.multipliers)
        factor = options.patch * 2 ** (levels - 1)
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
            attention_levels=[n for n in range(levels) if size // options.patch // 2**n in options.attention],
            heads=options.heads,
            dropout=options.dropout,
            feature_channels=self.conditioner.feature_channels,
        )

    @abstractmethod
    def make_conditioner(self, num_classes: int) -> Conditioner:
        """How this model reads the label map."""

    def phases(self) -> Iterable[Phase]:
        """One: the denoiser with its conditioner."""
        return (Phase("denoiser", list(self.parameters()), LR),)

    def loss(self, phase: str, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """The hybrid loss at uniformly drawn timesteps, and its two terms."""
        timesteps = rng.integers("timestep", self.process.schedule.num_timesteps)
        noise = rng.normal("noise", batch.image.shape[1:])
        x_t = self.process.q_sample(batch.image, timesteps, noise)
        output = self._output(x_t, timesteps, self.conditioner(batch.labels))
        terms = self.process.training_losses(output, batch.image, x_t, timesteps, noise)
        return {name: term.mean() for name, term in terms.items()}

    def generate(self, labels: Tensor, *, rng: Draws, sampler: SamplerConfig | None = None) -> Tensor:
        """Denoises from pure noise; the label map is encoded once for all steps."""
        shape = (1, *labels.shape[1:])
        conditioning = self.conditioner(labels)

        def denoise(x_t: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
            predicted, v = self._output(x_t, timesteps, conditioning).chunk(2, dim=1)
            return self.process.predict_x0(predicted, x_t, timesteps), v

        run = sampler or SamplerConfig()
        noise = rng.normal("start", shape)
        return run(denoise, self.process.schedule, noise, lambda timestep: rng.normal(timestep, shape)).clamp(
            -1, 1
        )

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
        predicted, v = self.unet(folded, timesteps, conditioning.features).float().chunk(2, dim=1)
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
