"""Label slices to CT slices in HU, in batches that may reach over several volumes, or volume by volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Annotated, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctsynth.data.window import Window
from ctsynth.device import Precision, autocast, find_precision
from ctsynth.diffusion.edm import Known
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import DataError
from ctsynth.methods.base import Method, Noise, Stack, VolumeMethod
from ctsynth.randomness import BatchRNG
from ctsynth.sampling.given import KnownSlices
from ctsynth.sampling.settings import SamplingSettings
from ctsynth.schema import Range, check
from ctsynth.training.checkpoint import Trained

CORRELATION = ((8.0, 0.65), (40.0, 0.35))
"""Correlation of the noise along z: lengths, mm, and their shares of the variance.

Fitted to what the labels do not say of two real CT, whose correlation is 0.85 and 0.94 at 3 mm, 0.41 and 0.53 at
15 mm, and in the longer one 0.23 at 30 mm and 0.14 at 45 mm. The root mean square error is 0.064; that of a single
length, 12 mm, 0.13.
"""

CHUNK = 128
"""Slices: most AMOS volumes are drawn whole."""

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How volumes are drawn.

    Args:
        sampler: None for a method that draws in one pass.
        seed: Same seed, same volume.
        noise: ``volume`` starts neighboring slices from alike noise, ``slice`` each from its own; None is the
            first of the method's ``noises``.
        batch_size: Slices drawn at once; changes rounding only. A method that draws volumes has ``chunk`` instead.
        chunk: Slices of a volume drawn together by a method that draws volumes; None is ``CHUNK``. Another number
            makes another volume, if the volume has more slices.
        device: Where.
        precision: ``bf16`` or ``fp32``.
        compile: Compile the network first; changes rounding only. ``sampling.sample`` does it.
        choices: The method's own choices, such as ``pix2pix_test``.
    """

    sampler: Sampler | None
    seed: int = 0
    noise: Noise | None = None
    batch_size: Annotated[int, Range(1, 65_536)] = 16
    chunk: Annotated[int, Range(1, 65_536)] | None = None
    device: torch.device = CPU
    precision: Precision = "fp32"
    compile: bool = False
    choices: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)

    def noise_for(self, method: Method) -> Noise:
        """What noise it starts that method's slices from."""
        return self.noise or method.noises[0]

    def correlation_for(self, method: Method) -> list[list[float]] | None:
        """Lengths along z, mm, and shares of the noise that it starts that method's slices from; None: of none."""
        return [list(pair) for pair in CORRELATION] if self.noise_for(method) == "volume" else None

    def chunk_for(self, method: Method) -> int | None:
        """How many slices that method draws together at most; None for one that draws slice by slice."""
        return (self.chunk or CHUNK) if isinstance(method, VolumeMethod) else None


def resolve(settings: SamplingSettings, method: Method, device: torch.device) -> SamplingConfig:
    """Decides what the settings leave open, for that model on that device.

    Raises:
        UsageError: The device does not have that precision.
    """
    return SamplingConfig(
        sampler=_sampler(settings, method),
        seed=settings.seed,
        noise=settings.noise,
        chunk=settings.chunk,
        batch_size=settings.batch_size or (4 if device.type == "cpu" else 16),
        device=device,
        precision=find_precision(settings.precision, device),
        compile=settings.compile,
        choices={"pix2pix_test": settings.pix2pix_test} if settings.pix2pix_test else {},
    )


def _sampler(wanted: SamplingSettings, method: Method) -> Sampler | None:
    """What was asked for, on top of the preset; None for a method that draws in one pass."""
    is_open = wanted.sampler is None and wanted.steps is None and (wanted.guidance, wanted.eta) == (1, 0)
    if not method.samplers and is_open:
        return None
    name, steps = ("ddpm", 1000) if wanted.preset == "paper" else ("dpm++", method.steps)
    return Sampler(
        name=wanted.sampler or name, steps=wanted.steps or steps, guidance=wanted.guidance, eta=wanted.eta
    )


class Slices:
    """The slices of a volume that is to be drawn.

    Args:
        name: The subject, which keys the noise.
        masks: (Z, size, size) uint8 labels of the model's set, body included.
        spacing: Between slices, mm.
        sample: Which of several from one mask; its seed is the first one's plus this.
        known: Slices that are there already.

    Attributes:
        hu: (Z, size, size) int16, HU within the model's window, as far as they are drawn.
    """

    def __init__(
        self,
        name: str,
        masks: NDArray[np.uint8],
        spacing: float,
        sample: int = 0,
        known: KnownSlices | None = None,
    ) -> None:
        self.name, self.masks, self.spacing, self.sample, self.known = name, masks, spacing, sample, known
        self.hu = np.empty(masks.shape, np.int16)

    def labels(self, place: int, context: int) -> NDArray[np.uint8]:
        """Labels of a slice, (size, size), or of it and its neighbors, as training reads them."""
        if not context:
            return self.masks[place]
        return self.masks[np.arange(place - context, place + context + 1).clip(0, len(self.masks) - 1)]


SlicesT = TypeVar("SlicesT", bound=Slices)


def sample_batches(
    trained: Trained,
    volumes: Iterable[SlicesT],
    sampling: SamplingConfig,
    advance: Callable[[SlicesT, int], None] = lambda volume, slices: None,
) -> Iterator[SlicesT]:
    """Draws volumes and yields each, in their order, when its last slice is drawn.

    A method that draws volumes draws one at a time. Of the others every batch has ``batch_size`` slices, of one
    volume or of several; the last is filled up with copies of its last slice. For a network computes a slice to
    the same bits at any place in a batch and beside any other slices, but not in a batch of another size.
    So a volume's bytes do not depend on its company.

    Args:
        trained: The model.
        volumes: What to draw; taken as they are needed.
        sampling: How.
        advance: Called after each batch with the volume of its last slice, and how many of that are drawn.

    Raises:
        DataError: The model draws NaN or infinity.
    """
    if isinstance(trained.method, VolumeMethod):
        for volume in volumes:
            _draw_whole(trained, trained.method, volume, sampling)
            advance(volume, len(volume.masks))
            yield volume
        return
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


def _draw_whole(trained: Trained, method: VolumeMethod, volume: Slices, sampling: SamplingConfig) -> None:
    """Draws all slices of a volume as one."""
    labels = torch.from_numpy(volume.masks.astype(np.int64)).to(sampling.device)
    rng = _noise(volume, list(range(len(labels))), "slice", sampling)
    known = None
    if volume.known is not None:
        window = Window(trained.config.level, trained.config.width)
        slices = torch.from_numpy(2 * window.normalize(volume.known.hu) - 1)[:, None]
        known = Known(slices, torch.from_numpy(volume.known.where))
    stack = Stack(volume.spacing, sampling.chunk or CHUNK, known)
    with torch.inference_mode(), autocast(sampling.device, sampling.precision):
        image = method.generate_volume(labels, stack, rng=rng, sampler=sampling.sampler)
    volume.hu[:] = _hu(trained, image, volume.name)


def _finished(
    trained: Trained,
    batch: list[tuple[SlicesT, int]],
    sampling: SamplingConfig,
    advance: Callable[[SlicesT, int], None],
) -> Iterator[SlicesT]:
    """Draws a batch of places in volumes and yields the volumes that end in it."""
    full = batch + batch[-1:] * (sampling.batch_size - len(batch))
    context = trained.method.label_context
    masks = np.stack([volume.labels(place, context) for volume, place in full])
    labels = torch.from_numpy(masks.astype(np.int64))
    rng = BatchRNG.joined(
        [
            _noise(volume, [place for _, place in places], sampling.noise_for(trained.method), sampling)
            for volume, places in groupby(full, itemgetter(0))
        ]
    )
    generate: Callable[..., Tensor] = trained.method.generate
    with torch.inference_mode(), autocast(sampling.device, sampling.precision):
        image = generate(labels.to(sampling.device), rng=rng, sampler=sampling.sampler, **sampling.choices)
    for (volume, place), drawn in zip(batch, _hu(trained, image, batch[0][0].name), strict=False):
        volume.hu[place] = drawn
    advance(batch[-1][0], batch[-1][1] + 1)
    for volume, place in batch:
        if place + 1 == len(volume.masks):
            yield volume


def _hu(trained: Trained, image: Tensor, name: str) -> NDArray[np.float32]:
    """Drawn slices (B, 1, H, W) in whole HU, (B, H, W)."""
    window = Window(trained.config.level, trained.config.width)
    hu = np.rint(window.denormalize((image[:, 0].float().cpu().numpy() + 1) / 2))
    if not np.isfinite(hu).all():
        raise DataError(
            f"{trained.path}: what it draws for {name} is not finite",
            hint="use another checkpoint; with `precision` bf16 try fp32",
        )
    return hu


def _noise(volume: Slices, places: list[int], noise: Noise, sampling: SamplingConfig) -> BatchRNG:
    key = ("sample", sampling.seed + volume.sample, volume.name)
    if noise == "volume":
        positions = [place * volume.spacing for place in places]
        return BatchRNG.smooth(key, positions, CORRELATION, sampling.device)
    return BatchRNG.at([(*key, place) for place in places], sampling.device)
