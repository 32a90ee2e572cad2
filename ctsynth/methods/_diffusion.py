"""What the conditional diffusion models share: all but how they read the label map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from ctsynth.diffusion.conditioners import Conditioner, Conditioning, EdgeConditioner, MaskConditioner
from ctsynth.diffusion.process import GaussianDiffusion, Prediction
from ctsynth.diffusion.samplers import SAMPLERS, Denoiser, Sampler
from ctsynth.diffusion.schedule import SCHEDULES
from ctsynth.methods._network import NetworkOptions, check_encoder, check_guidance, make_encoder, make_unet
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.blocks import ResBlock
from ctsynth.networks.conditioning import from_patches, to_patches
from ctsynth.networks.dropout import seed_dropout
from ctsynth.randomness import BatchRNG
from ctsynth.schema import Range, Width
from ctsynth.trainable import Batch

LR = 1e-4
"""The paper's, for every diffusion model."""

EARLY = 50_000
"""Steps before which a sheet of an epsilon model says that it is early; the paper's first checkpoint shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionOptions(NetworkOptions):
    """The denoiser and its process; the defaults are improved-diffusion's at 256 x 256, as in the paper."""

    prediction: Prediction = "epsilon"
    """What the network predicts."""

    schedule: Literal["linear", "cosine"] = "linear"
    """How the noise grows."""

    timesteps: Annotated[int, Range(20, 1_000_000, above=True)] = 1000
    """T. A linear schedule's last beta is 20 / T."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedOptions(DiffusionOptions):
    """The same with an encoder for the mask or its edges."""

    encoder_channels: Width = 64
    """Channels of that encoder's finest level; the paper does not say."""

    def __post_init__(self) -> None:
        NetworkOptions.__post_init__(self)  # super() does not find it in a class with slots
        check_encoder(self.encoder_channels, self.multipliers)


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


class DiffusionMethod(Method):
    """A denoising diffusion model on label maps; a subclass says how it reads them, in ``conditioner``."""

    Options = DiffusionOptions
    presets: ClassVar[Mapping[str, Preset]] = PRESETS
    samplers = tuple(SAMPLERS)
    blocks = (ResBlock,)

    def __init__(self, options: DiffusionOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.options, self.label_context = options, options.label_context
        self.process = GaussianDiffusion(SCHEDULES[options.schedule](options.timesteps), options.prediction)
        self.conditioner = self.make_conditioner(num_classes)
        self.unet = make_unet(options, self.conditioner, size, outputs=2)

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

    def check(self, sampler: Sampler) -> None:
        """More steps than T, and guidance of a model that was never trained without label maps."""
        sampler.check(self.process.schedule)
        check_guidance(
            self.options, sampler.guidance, "train one with `set` label_dropout=0.2 or, for sdm, `preset` guided"
        )

    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: Sampler | None = None) -> Tensor:
        """Denoises from pure noise; the label map is encoded once for all steps.

        Raises:
            UsageError: As ``check``.
        """
        run = sampler or Sampler()
        self.check(run)
        denoise = self.denoiser(labels, run.guidance)
        shape = (1, *labels.shape[-2:])
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
        conditioning = self.conditioner(torch.cat([labels] * copies), kept)

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
        return make_encoder(self.conditioner_type, self.options, self.options.encoder_channels, num_classes)
