"""What is measured on a GPU: training steps and sampling of ddpm-concat, ours and improved-diffusion's."""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
import torch.distributed as dist

from ctsynth.device import Precision, autocast
from ctsynth.diffusion.samplers import SamplerConfig
from ctsynth.randomness import BatchRNG
from ctsynth.stop import Stop
from ctsynth.training.checkpoint import make_method
from ctsynth.training.compile_blocks import compile_blocks
from ctsynth.training.stepper import Stepper

from . import steps

METHOD = "ddpm-concat"
WARM_UP = 3
"""Calls that do not count, beside the first."""

MOST_TRIES = 50
"""Calls of which one must do all its work: at first the peer's fp16 loss scale is too large for some."""

PEER_STEPS = 1000
"""Of the peer's ancestral sampling."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How ours runs."""

    precision: Precision
    layout: torch.memory_format = torch.channels_last
    compiled: bool = False

    def __str__(self) -> str:
        layout = "channels_last" if self.layout == torch.channels_last else "NCHW"
        return f"{self.precision} {layout}" + (" compiled" if self.compiled else "")


@dataclass(frozen=True)
class Taken:
    """What a side took.

    Args:
        seconds: Of a call, the median.
        slices: That a call has.
        compiling: Seconds that its first call took more; None where nothing is compiled.
        peak: The most that the GPU had allocated while it was timed, bytes; None without a GPU.
    """

    seconds: float
    slices: int
    compiling: float | None = None
    peak: int | None = None

    @property
    def a_slice(self) -> float:
        return self.seconds / self.slices


@dataclass(frozen=True)
class Missing:
    """Why a side was not measured; ``broken`` where it should have been."""

    why: str
    broken: bool = False


def attempt(name: str, measured: Callable[[], T]) -> T | Missing:
    """What was measured, or why it was not; also said as it comes."""
    print(name, end=": ", file=sys.stderr, flush=True)
    torch.compiler.reset()  # or the blocks of all settings would share one limit of graphs
    gc.collect()
    torch.cuda.empty_cache()
    try:
        taken = measured()
    except torch.OutOfMemoryError:
        taken = Missing("does not fit in the GPU's memory")
    except ModuleNotFoundError as error:
        taken = Missing(str(error))
    except Exception as error:  # the other sides' figures should not be lost with this one's
        traceback.print_exc()
        taken = Missing(f"{type(error).__name__}: {(str(error).splitlines() or ['see above'])[0]}", broken=True)
    said = f"{taken.seconds:.4g} s" if isinstance(taken, Taken) else getattr(taken, "why", "done")
    print(said, file=sys.stderr)
    return taken


def clock(side: Callable[[], object], asked: argparse.Namespace, slices: int, *, compiled: bool = False) -> Taken:
    """Times calls of a side, each until the GPU is done; one that returns False does not count."""
    first = _seconds(side, asked.device)
    for _ in range(WARM_UP):
        _seconds(side, asked.device)
    on_gpu = asked.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(asked.device)
    seconds = statistics.median(_seconds(side, asked.device) for _ in range(asked.repeats))
    peak = torch.cuda.max_memory_allocated(asked.device) if on_gpu else None
    return Taken(seconds, slices, first - seconds if compiled else None, peak)


def _seconds(side: Callable[[], object], device: torch.device) -> float:
    for _ in range(MOST_TRIES):
        wait(device)
        start = time.perf_counter()
        whole = side()
        wait(device)
        if whole is not False:
            return time.perf_counter() - start
    raise RuntimeError(f"none of {MOST_TRIES} steps did all its work")


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def our_stepper(asked: argparse.Namespace, setting: Setting) -> Stepper:
    settings = steps.config(METHOD, asked.batch_size, asked.size)
    settings = replace(settings, training=replace(settings.training, compile=setting.compiled))
    data = steps.Repeated(asked.batch_size, asked.size, asked.device)
    stepper = Stepper(settings, data, device=asked.device, precision=setting.precision)
    for model in (stepper.model, stepper.ema.model):  # alike, or the averages take a slow path
        model.to(memory_format=setting.layout)
    return stepper


def our_training(asked: argparse.Namespace, setting: Setting) -> Taken:
    stepper = our_stepper(asked, setting)
    taken = clock(partial(stepper.advance, Stop()), asked, asked.batch_size, compiled=setting.compiled)
    stepper.terms.check(list)
    return taken


@contextmanager
def peer(asked: argparse.Namespace) -> Iterator[object]:
    """improved-diffusion's training loop, in fp16 on a GPU."""
    with TemporaryDirectory() as folder:
        try:
            yield steps.improved_diffusion(
                asked.official,
                Path(folder),
                side=asked.size,
                device=asked.device,
                fp16=asked.device.type == "cuda",
            )
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


def peer_training(asked: argparse.Namespace) -> Taken:
    data = steps.Repeated(asked.batch_size, asked.size, asked.device)
    with peer(asked) as loop:

        def step() -> bool:
            scale = loop.lg_loss_scale
            loop.run_step(data.image, {"labels": data.labels})
            return loop.lg_loss_scale >= scale  # lowered where a gradient overflows; then nothing is optimized

        return clock(step, asked, asked.batch_size)


def our_sampling(asked: argparse.Namespace, batch: int, setting: Setting) -> Taken:
    """The default sampler on a network as a checkpoint is loaded for ``sample``."""
    method = make_method(steps.config(METHOD, batch, asked.size))
    method.to(asked.device, memory_format=setting.layout).eval().requires_grad_(False)
    if setting.compiled:
        compile_blocks(method)
    labels = steps.Repeated(batch, asked.size, asked.device).labels
    rng = BatchRNG.at([("benchmark", number) for number in range(batch)], asked.device)

    def draw() -> None:
        with torch.inference_mode(), autocast(asked.device, setting.precision):
            method.generate(labels, rng=rng, sampler=SamplerConfig())

    return clock(draw, asked, batch, compiled=setting.compiled)


def peer_sampling(asked: argparse.Namespace) -> Taken:
    """All steps of its ancestral sampling, worked out from some."""
    data = steps.Repeated(asked.batch_size, asked.size, asked.device)
    with peer(asked) as loop:
        side = steps.peer_denoising(loop.model, loop.diffusion, data)
        del loop  # its averages and gradients are no part of what sampling needs
        gc.collect()
        taken = clock(side, asked, asked.batch_size)
    return replace(taken, seconds=taken.seconds / steps.STEPS * PEER_STEPS)
