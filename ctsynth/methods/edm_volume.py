"""EDM for volumes: the slices' network, and after each of its blocks a look at the neighboring slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from ctsynth.diffusion.conditioners import Conditioning
from ctsynth.diffusion.edm import Denoiser, chunks, dpm_solver_pp, draw_volume, levels
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods._network import make_unet
from ctsynth.methods.base import Preset, Stack, VolumeMethod
from ctsynth.methods.edm import EDM, EDMOptions
from ctsynth.networks.blocks import ResBlock
from ctsynth.networks.mixing import Mixing
from ctsynth.networks.unet import UNet
from ctsynth.randomness import BatchRNG
from ctsynth.schema import Range, Share
from ctsynth.trainable import Batch, Windows


@dataclass(frozen=True, kw_only=True, slots=True)
class EDMVolumeOptions(EDMOptions):
    """EDM's, and what a window of a volume is."""

    window: Annotated[int, Range(2, 64)] = 8
    """Slices that are learned from together."""

    strides: tuple[Annotated[int, Range(1, 8)], ...] = (1, 1, 1, 2)
    """Every how many slices a window takes one: each window draws its own from these."""

    shared_levels: Share = 0.1
    """Share of windows whose slices have one noise level; those of the others have each its own."""

    def __post_init__(self) -> None:
        EDMOptions.__post_init__(self)
        if not self.strides:
            raise UsageError("strides must be one or more numbers")
        if self.label_context:
            raise UsageError("label_context is for methods that see one slice; this one sees its neighbors")


_SHORT = {"window": 4}
"""Two windows in a batch of 8: with one, a step sees too little of the data."""


class EDMVolume(EDM, VolumeMethod):
    """D(x + sigma n, mask, sigma) of all slices of a volume, each at a sigma of its own.

    Noise levels of their own in training (Chen et al. 2024) let it draw slices beside others that are there.
    """

    title = "EDM-volume"
    Options = EDMVolumeOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(),
        **{n: Preset({**EDM.presets[n].options, **_SHORT}, EDM.presets[n].training) for n in ("small", "tiny")},
    }
    blocks = (ResBlock, Mixing)
    begins_from = ("edm",)
    options: EDMVolumeOptions

    def __init__(self, options: EDMVolumeOptions, *, num_classes: int, size: int) -> None:
        super().__init__(options, num_classes=num_classes, size=size)
        self.window, self.strides = options.window, options.strides

    def make_unet(self, size: int) -> UNet:
        """The network F, which sees a window of slices, their spacing and their stride."""
        return make_unet(self.options, self.conditioner, size, outputs=1, mixing=True, numbers=2)

    def network(self, x: Tensor, t: Tensor, conditioning: Conditioning, windows: Windows | None) -> Tensor:
        """F, which sees the slices of each window."""
        if windows is None:
            return self.unet(x, t, conditioning.features)
        spacing = torch.stack([(windows.spacing / 5).log(), windows.stride.log2()], dim=1)
        numbers = spacing.repeat_interleave(windows.valid.shape[1], dim=0)
        return self.unet(x, t, conditioning.features, valid=windows.valid, numbers=numbers)

    def levels(self, batch: Batch, rng: BatchRNG) -> Tensor:
        """A noise level for each slice; in some windows the first slice's for all."""
        own = super().levels(batch, rng)
        if batch.windows is None:
            return own
        shape = batch.windows.valid.shape
        shares = rng.uniform("shared levels").view(shape)[:, :1] < self.options.shared_levels
        own = own.view(shape)
        return torch.where(shares, own[:, :1], own).flatten()

    def predict(self, batch: Batch, rng: BatchRNG) -> Tensor:
        """The windows' slices, each window drawn together."""
        noise = rng.normal("start", batch.image.shape[1:])
        return dpm_solver_pp(self.denoiser(batch.labels, windows=batch.windows), noise, levels(self.steps))

    def generate_volume(
        self, labels: Tensor, stack: Stack, *, rng: BatchRNG, sampler: Sampler | None = None
    ) -> Tensor:
        """Denoises all slices of a volume together from pure noise, or those of a chunk."""
        run = sampler or Sampler(steps=self.steps)
        self.check(run)

        def denoiser(part: range) -> Denoiser:
            ones = torch.ones(1, len(part), device=labels.device)
            windows = Windows(ones > 0, stack.spacing * ones[:, 0], ones[:, 0])
            return self.denoiser(labels[part.start : part.stop], run.guidance, windows)

        noise, again = (rng.normal(name, (1, *labels.shape[1:])) for name in ("start", "again"))
        parts = chunks(len(labels), stack.chunk, self.window // 2)
        return draw_volume(denoiser, noise, again, levels(run.steps), parts, stack.known)
