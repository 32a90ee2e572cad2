"""What a method is: one file of this package that defines one subclass of ``Method``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ctsynth import plugins
from ctsynth.diffusion.edm import Known
from ctsynth.diffusion.samplers import Sampler
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import METHODS as PACKAGE
from ctsynth.trainable import Batch, Phase, Preset, TrainableModel

Noise = Literal["volume", "slice"]

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
        noises: What ``sample --noise`` may be, the default first: ``volume``, alike for neighboring slices, or
            ``slice``.
        begins_from: Methods whose trained networks it can begin from, beside its own.
        steps: Evaluations of the network that a slice is drawn in, unless another number is asked for.
        choices: What else may be chosen when it draws: by name the values, the default first. ``generate`` has
            an argument of each name.
    """

    presets: ClassVar[Mapping[str, Preset]] = {"paper": Preset()}
    samplers: ClassVar[tuple[str, ...]] = ()
    noises: ClassVar[tuple[Noise, ...]] = ("volume", "slice")
    begins_from: ClassVar[tuple[str, ...]] = ()
    steps: ClassVar[int] = 20
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def generate(self, labels: Tensor, *, rng: BatchRNG, sampler: Sampler | None = None) -> Tensor:
        """Draws a slice for each label map: (B, H, W) int64 to (B, 1, H, W) in [-1, 1]."""

    def check(self, sampler: Sampler) -> None:
        """Refuses what a sampler asks for and this model cannot give, before masks are read.

        Raises:
            UsageError: There is such a thing.
        """

    def predict(self, batch: Batch, rng: BatchRNG) -> Tensor:
        """Slices for the batch's label maps, drawn with the method's own sampler."""
        return self.generate(batch.labels, rng=rng)


@dataclass(frozen=True, slots=True)
class Stack:
    """How the slices of a volume are to be drawn as one.

    Args:
        spacing: From a slice to the next, mm.
        chunk: At most so many together; a longer volume is drawn chunk after chunk, each given the end of
            the one before.
        known: Slices that are there already; None where all are to be drawn.
    """

    spacing: float
    chunk: int
    known: Known | None = None


class VolumeMethod(Method):
    """A method that learns from windows of slices and draws whole volumes, from noise that is white along z."""

    noises = ("slice",)

    @abstractmethod
    def generate_volume(
        self, labels: Tensor, stack: Stack, *, rng: BatchRNG, sampler: Sampler | None = None
    ) -> Tensor:
        """Draws the slices of one volume for its label maps: (Z, H, W) int64 to (Z, 1, H, W) in [-1, 1]."""


def method_names() -> list[str]:
    """The methods there are, by name."""
    return plugins.names(PACKAGE)


def find_method(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        UsageError: There is no such method, or its file defines none.
    """
    return plugins.find(PACKAGE, name, Method)  # type: ignore[type-abstract]
