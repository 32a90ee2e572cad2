"""EDM: a slice denoised from noise levels sigma (Karras et al. 2022), beyond the paper's seven systems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ctsynth.diffusion.conditioners import Conditioning, MaskConditioner
from ctsynth.diffusion.edm import Denoiser, Scales, dpm_solver_pp, levels, timesteps
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods._diffusion import GUIDED_PRESETS, LR
from ctsynth.methods._network import NetworkOptions, check_encoder, check_guidance, make_encoder, make_unet
from ctsynth.methods.base import Method, Phase, Preset
from ctsynth.networks.blocks import ResBlock
from ctsynth.networks.conditioning import from_patches, to_patches
from ctsynth.networks.dropout import seed_dropout
from ctsynth.networks.unet import UNet
from ctsynth.randomness import BatchRNG
from ctsynth.schema import Multipliers, Width
from ctsynth.trainable import Batch, Windows

GUIDED = (0.1, 5.0)
"""The noise levels at which guidance acts (Kynkaanniemi et al. 2024): above it costs variety."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EDMOptions(NetworkOptions):
    """The network at the cost of the paper's conditional DDPM, and Karras et al.'s training."""

    channels: Width = 160
    """Channels of the U-Net's finest level."""

    multipliers: Multipliers = (1, 2, 3, 4)
    """Channels of each level, as multiples."""

    attention: tuple[int, ...] = (16,)
    """Sides of the feature maps that have self-attention."""

    heads: int = 0
    """Attention heads; 0 where ``head_channels`` says how many."""

    head_channels: int = 64
    """Channels of an attention head; 0 where ``heads`` says how many."""

    patch: int = 2
    """Side of the pixel squares that are folded into channels; 2 halves the resolution that the U-Net works at."""

    encoder_channels: Width = 64
    """Channels of the mask encoder's finest level."""

    level_mean: float = -0.4
    """Mean of ln sigma in training; given the labels, most is to be learned around exp(-0.3)."""

    level_std: float = 1.4
    """Standard deviation of ln sigma in training."""

    def __post_init__(self) -> None:
        NetworkOptions.__post_init__(self)  # super() does not find it in a class with slots
        check_encoder(self.encoder_channels, self.multipliers)
        if self.level_std <= 0:
            raise UsageError(f"level_std must be above 0, not {self.level_std:g}")


def _preset(name: str) -> Preset:
    """That of the mask-guided DDPM, without what a schedule of timesteps has."""
    preset = GUIDED_PRESETS[name]
    kept = {key: value for key, value in preset.options.items() if key not in ("prediction", "schedule")}
    return Preset({**kept, "heads": 4, "head_channels": 0}, preset.training)


class EDM(Method):
    """D(x + sigma n, mask, sigma), the mask read through features at every scale."""

    title = "EDM"
    Options = EDMOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(), "small": _preset("small"), "tiny": _preset("tiny")
    }  # fmt: skip
    samplers = ("dpm++",)
    steps = 10
    blocks: ClassVar[tuple[type[nn.Module], ...]] = (ResBlock,)
    options: EDMOptions

    def __init__(self, options: EDMOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.options, self.label_context, self.scales = options, options.label_context, Scales()
        self.conditioner = make_encoder(MaskConditioner, options, options.encoder_channels, num_classes)
        self.unet = self.make_unet(size)

    def make_unet(self, size: int) -> UNet:
        """The network F, which sees one slice."""
        return make_unet(self.options, self.conditioner, size, outputs=1)

    def phases(self) -> Iterable[Phase]:
        """One: the denoiser with its conditioner."""
        return (Phase("denoiser", list(self.parameters()), LR),)

    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """lambda(sigma) |D - y|^2 at the noise levels of ``levels`` (Karras et al. 2022, Eq. 2 and Table 1)."""
        seed_dropout(self.unet, rng)
        rate = self.options.label_dropout
        kept = rng.uniform("label dropout") >= rate if rate else None
        sigma = self.levels(batch, rng)
        noisy = batch.image + _column(sigma) * rng.normal("noise", batch.image.shape[1:])
        denoised = self.denoise(noisy, sigma, self.conditioner(batch.labels, kept), batch.windows)
        loss = self.scales.weight(sigma) * (denoised - batch.image).square().flatten(1).mean(1)
        if batch.windows is not None:
            loss = loss * batch.windows.valid.flatten()
        return {"loss": loss.mean()}

    def levels(self, batch: Batch, rng: BatchRNG) -> Tensor:
        """The noise level of each slice in training: (B,), ln sigma ~ N(level_mean, level_std^2)."""
        return (self.options.level_mean + self.options.level_std * rng.normal("level", (1,))[:, 0]).exp()

    def denoise(
        self, noisy: Tensor, sigma: Tensor, conditioning: Conditioning, windows: Windows | None = None
    ) -> Tensor:
        """D(x; sigma) (Karras et al. 2022, Eq. 7): (B, 1, H, W) float32 for slices at levels (B,)."""
        patch, scales, column = self.options.patch, self.scales, _column(sigma)
        folded = to_patches(scales.input(column) * noisy, patch)
        output = self.network(folded, timesteps(sigma), conditioning, windows)
        return scales.skip(column) * noisy + scales.output(column) * from_patches(output.float(), patch)

    def network(self, x: Tensor, t: Tensor, conditioning: Conditioning, windows: Windows | None) -> Tensor:
        """F, which sees each slice alone."""
        return self.unet(x, t, conditioning.features)

    def check(self, sampler: Sampler) -> None:
        """Guidance of a model that was never trained without label maps."""
        check_guidance(self.options, sampler.guidance, "train one with `set` label_dropout=0.2")

    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: Sampler | None = None) -> Tensor:
        """Denoises from pure noise; the label map is encoded once for all steps.

        Raises:
            UsageError: As ``check``.
        """
        run = sampler or Sampler(steps=self.steps)
        self.check(run)
        noise = rng.normal("start", (1, *labels.shape[-2:]))
        return dpm_solver_pp(self.denoiser(labels, run.guidance), noise, levels(run.steps))

    def denoiser(self, labels: Tensor, guidance: float = 1.0, windows: Windows | None = None) -> Denoiser:
        """The denoiser of slices with these label maps, within [-1, 1].

        With guidance other than 1 it is null + guidance (D - null) at levels within ``GUIDED``, where null is what
        it says without the label map (Ho & Salimans 2022).
        """
        conditioning = self.conditioner(labels)
        nothing = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        null = self.conditioner(labels, nothing) if guidance != 1 else None

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            x0 = self.denoise(x, sigma, conditioning, windows)
            is_guided = (sigma >= GUIDED[0]) & (sigma <= GUIDED[1])
            if null is not None and is_guided.any():
                without = self.denoise(x, sigma, null, windows)
                x0 = torch.where(_column(is_guided), without + guidance * (x0 - without), x0)
            return x0.clamp(-1, 1)

        return denoise


def _column(values: Tensor) -> Tensor:
    """(B,) against slices (B, 1, H, W)."""
    return values[:, None, None, None]
