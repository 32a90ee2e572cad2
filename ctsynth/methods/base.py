"""What a method is: one file of this package that defines one subclass of ``Method``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from ctsynth import plugins
from ctsynth.batch import Batch
from ctsynth.diffusion.samplers import SamplerConfig
from ctsynth.randomness import Draws

PACKAGE = "ctsynth.methods"


@dataclass(frozen=True, slots=True)
class Phase:
    """What one optimizer steps together: a diffusion model's denoiser, a GAN's generator or discriminator.

    Args:
        name: As it is called in metrics.jsonl and trainer.pt.
        parameters: What the optimizer owns; the other phases' are frozen meanwhile.
        lr: The method's own learning rate.
        betas: Adam's.
    """

    name: str
    parameters: list[nn.Parameter]
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings that belong together: the method's own and those of ``TrainingConfig``."""

    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A system of the paper: how it learns from slices and label maps, and how it draws a slice for a label map.

    A method sees tensors only, never a file. What differs between a GAN and a diffusion model is data, ``phases``
    and ``samplers``, and not a branch in the engine.

    Attributes:
        title: Its name in the paper's tables.
        Options: A frozen dataclass of its settings, whose defaults are the paper's.
        presets: ``paper``, ``small`` and ``tiny``, by name.
        lr: Its base learning rate, which ``--lr`` replaces; the rates of the phases keep their ratio to it.
        samplers: Names of the samplers it takes; empty for a method that draws in one pass.
        choices: What else may be chosen when it draws: by name the values, the default first. ``generate`` reads
            the attribute of that name.

    Args:
        options: An instance of ``Options``.
        num_classes: Classes in a label map, background and body included.
        size: Side of a slice, pixels.
    """

    title: ClassVar[str]
    Options: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Preset]] = {"paper": Preset()}
    samplers: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    lr: ClassVar[float] = 1e-4

    @abstractmethod
    def __init__(self, options: Any, *, num_classes: int, size: int) -> None:  # noqa: ANN401  its own Options
        super().__init__()

    @abstractmethod
    def phases(self) -> Iterable[Phase]:
        """What is optimized, in the order in which a training step goes through it."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch, rng: Draws) -> dict[str, Tensor]:
        """What a phase minimizes, as the scalar ``loss``, and its terms by name."""

    @abstractmethod
    def generate(self, labels: Tensor, *, rng: Draws, sampler: SamplerConfig | None = None) -> Tensor:
        """Draws a slice for each label map: (B, H, W) int64 to (B, 1, H, W) in [-1, 1]."""

    @classmethod
    def settle(cls, options: Any) -> Any:  # noqa: ANN401  its own Options
        """Decides, before a run begins, what the options leave to this machine, such as ``auto``; the log says it.

        Raises:
            UsageError: What the options ask for is not here.
        """
        return options

    def caution(self, step: int) -> str:
        """What someone who looks at a sample of this step should know; empty where there is nothing."""
        return ""


def names() -> list[str]:
    """The methods there are, by name."""
    return plugins.names(PACKAGE)


def find(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        UsageError: There is no such method, or its file defines none.
    """
    return plugins.find(PACKAGE, name, Method)  # type: ignore[type-abstract]
