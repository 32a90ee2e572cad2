"""What a method is: one file of this package that defines one subclass of ``Method``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from ctsynth import plugins
from ctsynth.diffusion.samplers import SamplerConfig
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import METHODS as PACKAGE
from ctsynth.trainable import Batch, Phase, Preset, TrainableModel

__all__ = ["PACKAGE", "Method", "Phase", "Preset", "find_method", "method_names"]


class Method(TrainableModel):
    """A system of the paper: how it learns from slices and label maps, and how it draws a slice for a label map.

    What differs between a GAN and a diffusion model is data, ``phases`` and ``samplers``, and not a branch in the
    engine.

    Attributes:
        title: Its name in the paper's tables.
        Options: Its settings; the defaults are the paper's.
        presets: ``paper``, ``small`` and ``tiny``, by name.
        samplers: Names of the samplers it takes; empty for a method that draws in one pass.
        choices: What else may be chosen when it draws: by name the values, the default first. ``generate`` reads
            the attribute of that name.
    """

    presets: ClassVar[Mapping[str, Preset]] = {"paper": Preset()}
    samplers: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: SamplerConfig | None = None) -> Tensor:
        """Draws a slice for each label map: (B, H, W) int64 to (B, 1, H, W) in [-1, 1]."""

    def check(self, sampler: SamplerConfig) -> None:
        """Refuses what a sampler asks for and this model cannot give, before masks are read.

        Raises:
            UsageError: There is such a thing.
        """

    def predict(self, batch: Batch, rng: BatchRNG) -> Tensor:
        """Slices for the batch's label maps, drawn with the method's own sampler."""
        return self.generate(batch.labels, rng=rng)


def method_names() -> list[str]:
    """The methods there are, by name."""
    return plugins.names(PACKAGE)


def find_method(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        UsageError: There is no such method, or its file defines none.
    """
    return plugins.find(PACKAGE, name, Method)  # type: ignore[type-abstract]
