"""What the training loop trains: anything that learns from slices and label maps, phase by phase."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from ctsynth import plugins
from ctsynth.randomness import BatchRNG

METHODS, SEGMENTERS = "ctsynth.methods", "ctsynth.segmenters"
"""The packages of learners, a file each: what draws slices, and what finds organs in them."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How the slices of a batch lie along z: window after window, each of slices that follow one another.

    Shapes:
        valid: (N, K) bool, of N windows of K slices; False where one reaches past an end of its volume.
        spacing: (N,) float32, mm from a slice of the volume to the next.
        stride: (N,) float32, slices of the volume from one of the window to the next.
    """

    valid: Tensor
    spacing: Tensor
    stride: Tensor

    def split(self, parts: int) -> list[Windows]:
        """So many equal parts of them, in order."""
        columns = (column.chunk(parts) for column in (self.valid, self.spacing, self.stride))
        return [Windows(*part) for part in zip(*columns, strict=True)]


@dataclass(slots=True)
class StepFake:
    """What a GAN's generator makes of a batch, graph and all: the step's first phase leaves it for the others."""

    slices: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Real slices and their label maps.

    Shapes:
        image: (B, 1, H, W) float32 in [-1, 1], the window's range.
        labels: (B, H, W) int64 in [0, num_classes); where ``label_context`` is N, (B, 2 N + 1, H, W), the
            slice's own in the middle.
        totals: ``TrainableModel.totals`` of the whole batch, where these slices are a part of it: one rank's
            share, or one step's of accumulation. None where they are the whole.
        fake: the step's fake slices. None where each phase makes its own: kept for every part of a batch, they
            would take the memory that the parts are to save.
        windows: how they lie along z, (N, K) with N K = B; None where each stands alone.
    """

    image: Tensor
    labels: Tensor
    totals: Tensor | None = None
    fake: StepFake | None = None
    windows: Windows | None = None

    @property
    def own_labels(self) -> Tensor:
        """(B, H, W): of each slice its own."""
        return self.labels if self.labels.ndim == 3 else self.labels[:, self.labels.shape[1] // 2]

    def split(self, parts: int) -> list[Batch]:
        """So many equal parts of it, in order."""
        size = len(self.labels) // parts
        windows = self.windows.split(parts) if self.windows else [None] * parts
        pieces = zip(self.image.split(size), self.labels.split(size), windows, strict=True)
        return [replace(self, image=image, labels=labels, windows=some) for image, labels, some in pieces]


@dataclass(frozen=True, slots=True)
class Phase:
    """What one optimizer steps together: a diffusion model's denoiser, a GAN's generator or discriminator.

    Args:
        name: As it is called in metrics.jsonl and trainer.pt.
        parameters: What the optimizer owns; the other phases' are frozen meanwhile.
        lr: The model's own learning rate.
        betas: Adam's.
    """

    name: str
    parameters: list[nn.Parameter]
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings that belong together: the model's own and those of ``TrainingConfig``."""

    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


class TrainableModel(nn.Module, ABC):
    """A network, or several, that the loop trains. It sees tensors only, never a file.

    Attributes:
        title: Its name in tables and on sample sheets.
        Options: A frozen dataclass of its settings.
        presets: By name; the first is for a GPU, ``small`` for a CPU.
        lr: Its base learning rate, which ``--lr`` replaces; the rates of the phases keep their ratio to it.
        blocks: What its networks are made of many times over: what ``--compile`` takes one by one, and what
            ``--checkpointing``, for which there must be some, computes twice.
        window: Slices, one after another in their volume, that it learns from together, by its option of that
            name; 1 for one that knows a slice alone. A batch is then ``batch_size / window`` windows.
        strides: Every how many slices a window takes one; each window draws its own from these.
        label_context: Slices above, and as many below, whose label maps it reads beside a slice's own.
        knows_tissues: Whether it learns from the tissues of a label set that has them; if not, body is one class.

    Args:
        options: An instance of ``Options``.
        num_classes: Classes in a label map, background and body included.
        size: Side of a slice, pixels.
    """

    title: ClassVar[str]
    Options: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Preset]]
    lr: ClassVar[float] = 1e-4
    blocks: ClassVar[tuple[type[nn.Module], ...]] = ()
    window: int = 1
    strides: tuple[int, ...] = (1,)
    label_context: int = 0
    knows_tissues: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, options: Any, *, num_classes: int, size: int) -> None:  # noqa: ANN401  its own Options
        super().__init__()

    @property
    def label_maps(self) -> int:
        """How many label maps it reads of a slice."""
        return 2 * self.label_context + 1

    @abstractmethod
    def phases(self) -> Iterable[Phase]:
        """What is optimized, in the order in which a training step goes through it."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        """What a phase minimizes, as the scalar ``loss``, and its terms by name."""

    def totals(self, phase: str, batch: Batch, rng: BatchRNG) -> Tensor | None:
        """What a phase's loss adds up over all slices before anything else; None where it is a mean over slices.

        Of a batch in parts, or on several ranks, the sum over all of them comes back as ``Batch.totals``. It is
        asked for without gradients, right before the loss of the same slices with the same draws.
        """
        return None

    @abstractmethod
    def predict(self, batch: Batch, rng: BatchRNG) -> Tensor:
        """What it has learned to make: slices (B, 1, H, W) in [-1, 1], or label maps (B, H, W) int64."""

    @classmethod
    def resolve(cls, options: Any) -> Any:  # noqa: ANN401  its own Options
        """Decides, before a run begins, what the options leave to this machine, such as ``auto``; the log says it.

        Raises:
            UsageError: What the options ask for is not here.
        """
        return options

    def caution(self, step: int) -> str:
        """What someone who looks at a sample sheet of this step should know; empty where there is nothing."""
        return ""


def find_model(name: str) -> type[TrainableModel]:
    """The class of a method or, where no method is called so, of a segmenter.

    Raises:
        UsageError: There is neither, or its file defines none.
    """
    is_segmenter = name in plugins.names(SEGMENTERS) and name not in plugins.names(METHODS)
    return plugins.find(SEGMENTERS if is_segmenter else METHODS, name, TrainableModel)  # type: ignore[type-abstract]
