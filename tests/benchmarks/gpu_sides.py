"""What is measured on a GPU: training steps, the training loop and sampling, ours and improved-diffusion's."""

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

from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Store
from ctsynth.device import Precision, autocast
from ctsynth.diffusion.samplers import Sampler
from ctsynth.randomness import BatchRNG
from ctsynth.stop import Stop
from ctsynth.training.checkpoint import make_method
from ctsynth.training.compile_blocks import compile_model
from ctsynth.training.loop import Trainer
from ctsynth.training.stepper import Stepper

from . import steps

WARM_UP = 3
"""Calls that do not count, besides the first."""

MOST_TRIES = 50
"""Calls of which one must do all its work: at first the peer's fp16 loss scale is too large for some."""

PEER_STEPS = 1000
"""Steps of the peer's ancestral sampling."""

LOOP_STEPS = 20
"""Steps of the training loop that are timed together, with the loader and the log."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How ours runs; ``search`` is cuDNN's search for the fastest convolution."""

    method: str = "ddpm-concat"
    precision: Precision = "bf16"
    layout: torch.memory_format = torch.contiguous_format
    compiled: bool = False
    search: bool = False

    def __str__(self) -> str:
        layout = "channels_last" if self.layout == torch.channels_last else "NCHW"
        words = (self.precision, layout, "compiled" * self.compiled, "cuDNN search" * self.search)
        return f"{self.method}, {' '.join(word for word in words if word)}"


@dataclass(frozen=True)
class Taken:
    """What a row took.

    Args:
        name: What was measured, as the table shows it.
        seconds: Median of a call.
        slices: Slices in a call.
        compiling: Seconds that the first call took more; None where nothing is compiled.
        peak: Most bytes that the GPU had allocated while it was timed; None without a GPU.
        host: Median seconds until the host had launched a call's work.
    """

    name: str
    seconds: float
    slices: int
    compiling: float | None = None
    peak: int | None = None
    host: float | None = None

    @property
    def a_slice(self) -> float:
        return self.seconds / self.slices


@dataclass(frozen=True)
class Missing:
    """Why a row was not measured; ``broken`` where it should have been."""

    name: str
    why: str
    broken: bool = False


def attempt(name: str, measured: Callable[[], T]) -> T | Missing:
    """What was measured, or why it was not; also printed as it comes."""
    print(name, end=": ", file=sys.stderr, flush=True)
    torch.compiler.reset()  # or the graphs of all rows would share one limit
    gc.collect()
    torch.cuda.empty_cache()
    try:
        taken = measured()
    except torch.OutOfMemoryError:
        taken = Missing(name, "does not fit in the GPU's memory")
    except ModuleNotFoundError as error:
        taken = Missing(name, str(error))
    except Exception as error:  # the other rows' figures should not be lost with this one's
        traceback.print_exc()
        reason = f"{type(error).__name__}: {(str(error).splitlines() or ['see above'])[0]}"
        taken = Missing(name, reason, broken=True)
    finally:
        torch.backends.cudnn.benchmark = False
    said = f"{taken.seconds:.4g} s" if isinstance(taken, Taken) else getattr(taken, "why", "done")
    print(said, file=sys.stderr, flush=True)
    return taken


def clock(
    name: str, side: Callable[[], object], asked: argparse.Namespace, slices: int, *, compiled: bool = False
) -> Taken:
    """Times calls, each until the GPU is done; one that returns False does not count."""
    first, _ = _seconds(side, asked.device)
    for _ in range(WARM_UP):
        _seconds(side, asked.device)
    on_gpu = asked.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(asked.device)
    times = [_seconds(side, asked.device) for _ in range(asked.repeats)]
    seconds, host = (statistics.median(column) for column in zip(*times, strict=True))
    peak = torch.cuda.max_memory_allocated(asked.device) if on_gpu else None
    return Taken(name, seconds, slices, first - seconds if compiled else None, peak, host)


def _seconds(side: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds of a call: until the GPU is done, and until the host is."""
    for _ in range(MOST_TRIES):
        wait(device)
        start = time.perf_counter()
        whole = side()
        host = time.perf_counter() - start
        wait(device)
        if whole is not False:
            return time.perf_counter() - start, host
    raise RuntimeError(f"none of {MOST_TRIES} steps did all its work")


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_of(asked: argparse.Namespace, setting: Setting, store: Store | None = None) -> RunConfig:
    """The paper preset's run."""
    torch.backends.cudnn.benchmark = setting.search
    run = steps.config(setting.method, asked.batch_size, store.size if store else asked.size)
    run = replace(run, training=replace(run.training, compile=setting.compiled, precision=setting.precision))
    return replace(run, labels=store.labels.as_json()) if store else run


def our_stepper(asked: argparse.Namespace, setting: Setting, store: Store | None = None) -> Stepper:
    """Optimizer steps on one batch in the GPU's memory, or on a store's slices."""
    run = run_of(asked, setting, store)
    data = SliceDataset(store, "train") if store else steps.Repeated(asked.batch_size, asked.size, asked.device)
    stepper = Stepper(run, data, device=asked.device, precision=setting.precision)
    for model in (stepper.model, stepper.ema.model):  # alike, or the averages take a slow path
        model.to(memory_format=setting.layout)
    return stepper


def our_training(asked: argparse.Namespace, setting: Setting) -> Taken:
    stepper = our_stepper(asked, setting)
    step = partial(stepper.advance, Stop())
    taken = clock(str(setting), step, asked, asked.batch_size, compiled=setting.compiled)
    stepper.terms.check(list)
    return taken


def our_loop(asked: argparse.Namespace, setting: Setting) -> Taken:
    """Steps as ``ctsynth train`` takes them: slices read from a store, numbers logged."""
    if asked.store is None:
        raise ModuleNotFoundError("--store was not given")
    stepper = our_stepper(asked, setting, Store.open(asked.store))

    def loop() -> None:
        for _ in range(LOOP_STEPS):
            stepper.advance(Stop())
        stepper.terms.check(list)

    name = f"{setting}, with the loader"
    return clock(name, loop, asked, LOOP_STEPS * asked.batch_size, compiled=setting.compiled)


def our_checkpoint(asked: argparse.Namespace, setting: Setting) -> Taken:
    """A checkpoint written to the disk that holds the temporary folder."""
    data = steps.Repeated(asked.batch_size, asked.size, asked.device)
    with TemporaryDirectory() as folder:
        run = run_of(asked, setting)
        trainer = Trainer(Path(folder), run, data, None, device=asked.device, precision=setting.precision)
        trainer.stepper.advance(Stop())
        return clock(f"{setting.method}, a checkpoint", trainer._save, repeated(asked, 2), 1)


def repeated(asked: argparse.Namespace, repeats: int) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(asked), "repeats": repeats})


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

        return clock("improved-diffusion, fp16", step, asked, asked.batch_size)


def our_sampling(asked: argparse.Namespace, batch: int, setting: Setting, evaluations: int) -> Taken:
    """DPM-Solver++(2M) on a network as a checkpoint is loaded for ``sample``."""
    torch.backends.cudnn.benchmark = setting.search
    method = make_method(steps.config(setting.method, batch, asked.size))
    method.to(asked.device, memory_format=setting.layout).eval().requires_grad_(False)
    if setting.compiled:
        compile_model(method, asked.device)
    labels = steps.Repeated(batch, asked.size, asked.device).labels
    rng = BatchRNG.at([("benchmark", number) for number in range(batch)], asked.device)
    sampler = Sampler(steps=evaluations)

    def draw() -> None:
        with torch.inference_mode(), autocast(asked.device, setting.precision):
            method.generate(labels, rng=rng, sampler=sampler)

    name = f"{setting}, {evaluations} evaluations, batch {batch}"
    return clock(name, draw, repeated(asked, 3), batch, compiled=setting.compiled)


def peer_sampling(asked: argparse.Namespace) -> Taken:
    """All steps of its ancestral sampling, worked out from some."""
    data = steps.Repeated(asked.batch_size, asked.size, asked.device)
    with peer(asked) as loop:
        side = steps.peer_denoising(loop.model, loop.diffusion, data)
        del loop  # its averages and gradients are no part of what sampling needs
        gc.collect()
        name = f"improved-diffusion, fp16, {PEER_STEPS:,} evaluations, batch {asked.batch_size}"
        taken = clock(name, side, repeated(asked, 3), asked.batch_size)
    return replace(taken, seconds=taken.seconds / steps.STEPS * PEER_STEPS, host=None)
