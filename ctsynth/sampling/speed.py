"""How long a model takes to draw a slice."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from ctsynth.methods.base import VolumeMethod
from ctsynth.sampling.batches import SamplingConfig, draw
from ctsynth.sampling.cases import Case
from ctsynth.training.checkpoint import Trained

WARM_UP = 2
"""Steps drawn before the time is taken: the first ones also load kernels."""


def seconds_per_slice(trained: Trained, case: Case, sampling: SamplingConfig) -> float:
    """Wall time of one full batch, or of one chunk of a volume, by the slices in it, without reading and writing.

    Args:
        trained: The model.
        case: Whose masks are drawn.
        sampling: How.
    """
    masks = case.read()
    count = sampling.chunk_for(trained.method) or sampling.batch_size
    slices, spacing = masks.slices[:count], masks.geometry.spacing[2]
    drawn = len(slices) if isinstance(trained.method, VolumeMethod) else sampling.batch_size  # filled up
    if sampling.sampler is not None:
        short = replace(sampling, sampler=replace(sampling.sampler, steps=min(WARM_UP, sampling.sampler.steps)))
        draw(trained, slices, spacing, case.name, short)
    start = perf_counter()
    draw(trained, slices, spacing, case.name, sampling)  # ends on the host: a GPU has been waited for
    return (perf_counter() - start) / drawn
