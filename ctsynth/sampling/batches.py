"""Label slices to CT slices in HU, in batches that may reach over several volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth.data.window import Window
from ctsynth.device import Precision, autocast
from ctsynth.diffusion.samplers import SamplerConfig
from ctsynth.errors import DataError
from ctsynth.randomness import BatchRNG
from ctsynth.schema import Range, check
from ctsynth.training.checkpoint import Trained

CORRELATION_LENGTH = 12.0
"""Of the noise along z, mm: at AMOS's 1.25 to 5 mm neighboring slices share most of it, at 15 mm little."""

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How volumes are drawn.

    Args:
        sampler: None for a method that draws in one pass.
        seed: Same seed, same volume.
        noise: ``volume`` starts neighboring slices from alike noise, ``slice`` each from its own.
        batch_size: Slices drawn at once; changes rounding only.
        device: Where.
        precision: ``bf16`` or ``fp32``.
        compile: Compile the network first; changes rounding only. ``sampling.sample`` does it.
        choices: Of the method's own, such as ``pix2pix_test``.
    """

    sampler: SamplerConfig | None
    seed: int = 0
    noise: Literal["volume", "slice"] = "volume"
    batch_size: Annotated[int, Range(1, 65_536)] = 16
    device: torch.device = CPU
    precision: Precision = "fp32"
    compile: bool = False
    choices: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)


class Slices:
    """The slices of a volume that is to be drawn.

    Args:
        name: The subject, which keys the noise.
        masks: (Z, size, size) uint8 labels of the model's set, body included.
        spacing: Between slices, mm.

    Attributes:
        hu: (Z, size, size) int16, HU within the model's window, as far as they are drawn.
    """

    def __init__(self, name: str, masks: NDArray[np.uint8], spacing: float) -> None:
        self.name, self.masks, self.spacing = name, masks, spacing
        self.hu = np.empty(masks.shape, np.int16)


SlicesT = TypeVar("SlicesT", bound=Slices)


def sample_batches(
    trained: Trained,
    volumes: Iterable[SlicesT],
    sampling: SamplingConfig,
    advance: Callable[[SlicesT, int], None] = lambda volume, slices: None,
) -> Iterator[SlicesT]:
    """Draws volumes and yields each, in their order, when its last slice is drawn.

    Every batch has ``batch_size`` slices, of one volume or of several; the last is filled up with copies of its
    last slice. For a network computes a slice to the same bits wherever it stands in a batch and whatever stands
    beside it, but not in a batch of another size. So a volume's bytes do not depend on its company.

    Args:
        trained: The model.
        volumes: What to draw; taken as they are needed.
        sampling: How.
        advance: Called after each batch with the volume of its last slice, and how many of that are drawn.

    Raises:
        DataError: The model draws NaN or infinity.
    """
    batch: list[tuple[SlicesT, int]] = []
    for volume in volumes:
        for place in range(len(volume.masks)):
            batch.append((volume, place))
            if len(batch) == sampling.batch_size:
                yield from _finished(trained, batch, sampling, advance)
                batch = []
    if batch:
        yield from _finished(trained, batch, sampling, advance)


def draw(
    trained: Trained, masks: NDArray[np.uint8], spacing: float, name: str, sampling: SamplingConfig
) -> NDArray[np.int16]:
    """Draws the slices of one volume: arguments as of ``Slices``, which returns its ``hu``."""
    (volume,) = sample_batches(trained, [Slices(name, masks, spacing)], sampling)
    return volume.hu


def _finished(
    trained: Trained,
    batch: list[tuple[SlicesT, int]],
    sampling: SamplingConfig,
    advance: Callable[[SlicesT, int], None],
) -> Iterator[SlicesT]:
    """Draws a batch of places in volumes and yields the volumes that end in it."""
    full = batch + batch[-1:] * (sampling.batch_size - len(batch))
    labels = torch.from_numpy(np.stack([volume.masks[place] for volume, place in full]).astype(np.int64))
    rng = BatchRNG.joined(
        [
            _noise(volume, [place for _, place in places], sampling)
            for volume, places in groupby(full, itemgetter(0))
        ]
    )
    with torch.inference_mode(), autocast(sampling.device, sampling.precision):
        image = trained.method.generate(labels.to(sampling.device), rng=rng, sampler=sampling.sampler)
    window = Window(trained.config.level, trained.config.width)
    hu = np.rint(window.denormalize((image[:, 0].float().cpu().numpy() + 1) / 2))
    if not np.isfinite(hu).all():
        raise DataError(
            f"{trained.path}: what it draws for {batch[0][0].name} is not finite",
            hint="use another checkpoint; with --precision bf16 try fp32",
        )
    for (volume, place), drawn in zip(batch, hu, strict=False):
        volume.hu[place] = drawn
    advance(batch[-1][0], batch[-1][1] + 1)
    for volume, place in batch:
        if place + 1 == len(volume.masks):
            yield volume


def _noise(volume: Slices, places: list[int], sampling: SamplingConfig) -> BatchRNG:
    if sampling.noise == "volume":
        positions = [place * volume.spacing for place in places]
        return BatchRNG.smooth(
            ("sample", sampling.seed, volume.name), positions, CORRELATION_LENGTH, sampling.device
        )
    return BatchRNG.at([("sample", sampling.seed, volume.name, place) for place in places], sampling.device)
