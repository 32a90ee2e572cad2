"""What a run will take: counted without arithmetic, and timed on optimizer steps that are forgotten."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctsynth import compat
from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Store
from ctsynth.device import autocast
from ctsynth.errors import RunError
from ctsynth.randomness import BatchRNG
from ctsynth.stop import Stop
from ctsynth.trainable import Batch, StepFake, Windows
from ctsynth.training.activations import SavedActivations
from ctsynth.training.checkpoint import make_model
from ctsynth.training.compile_blocks import recompute_blocks
from ctsynth.training.cost import flop_counter
from ctsynth.training.distributed import freeze_others
from ctsynth.training.stepper import Stepper

MOST_STEPS = 10

TRIAL_SECONDS = 20.0
"""Seconds that the timed steps may take, unless one takes longer."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take.

    Args:
        parameters: Parameters of each phase, by name.
        flops: FLOPs of an optimizer step: the whole batch, all phases; two a multiplication and addition.
        memory: Bytes of a rank, by what they are for. Activations are what autograd keeps at most; what
            convolutions need beside it comes on top, on a CPU up to half as much again.
        checkpoint: Bytes of one on disk.
        batch: Slices of a timed step of one rank; smaller than in the run where that would not fit.
        steps: How many were timed.
        images_per_s: Slices a second of all ranks, as if they did not wait for one another.
        seconds: To the last iteration, without checkpoints and sample sheets.
        peak: The most that the GPU had allocated in a timed step, bytes; None elsewhere.
    """

    parameters: dict[str, int]
    flops: float
    memory: dict[str, int]
    checkpoint: int
    batch: int
    steps: int
    images_per_s: float
    seconds: float
    peak: int | None = None

    def table(self, config: RunConfig, device: torch.device, ranks: int = 1) -> dict[str, str]:
        """What a person reads, line by line."""
        training = config.training
        parts = f", {ranks} ranks" if ranks > 1 else ""
        parts += f", in {training.accumulate} parts" if training.accumulate > 1 else ""
        parts += ", compiled" if training.compile else ""
        parts += ", blocks computed twice" if training.checkpointing else ""
        whole = training.batch_size // ranks
        smaller = f" (the run's have {whole}, whose rate may differ)" if self.batch < whole else ""
        used = ", ".join(f"{what} {_size(size)}" for what, size in self.memory.items())
        peak = f"; {_size(self.peak)} at most while timed" if self.peak else ""
        return {
            "method": f"{config.method}, preset {config.preset}, {config.size} x {config.size} pixels",
            "device": f"{device}, {training.precision}",
            "parameters": ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in self.parameters.items()),
            "a step": f"{training.batch_size} slices{parts}: {_short(self.flops / 1e12)} TFLOP",
            "memory": f"about {_size(sum(self.memory.values()))}{' a rank' if ranks > 1 else ''}: {used}{peak}",
            "speed": f"{_short(self.images_per_s)} slices/s, {self.steps} timed steps of {self.batch}{smaller}",
            "to the end": f"{_duration(self.seconds)} for {training.iterations:,} steps",
            "a checkpoint": f"{_size(self.checkpoint)} on disk",
        }


@dataclass(frozen=True, slots=True)
class Timing:
    """Optimizer steps as they were timed; as in ``Forecast``."""

    batch: int
    steps: int
    elapsed: float
    peak: int | None


@dataclass(frozen=True, slots=True)
class Count:
    """What a rank's share of a step takes, by shapes alone; as in ``Forecast``."""

    parameters: dict[str, int]
    flops: float
    memory: dict[str, int]
    checkpoint: int


def forecast(store: Store, config: RunConfig, device: torch.device, *, ranks: int = 1) -> Forecast:
    """Estimates memory, time and disk of a run; writes nothing.

    Args:
        store: Its training slices.
        config: From ``configure``.
        device: Where.
        ranks: That will share each batch; the share of one is measured.

    Raises:
        UsageError: The batch cannot be shared out.
        RunError: The device has too little memory.
    """
    training = config.training
    training.check_ranks(ranks, config.window)
    counted = count(config, device, training.batch_size // (training.accumulate * ranks))
    try:
        timed = measure(store, config, device, counted.memory, ranks=ranks)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"{device} has too little memory: {str(error).splitlines()[0]}", hint="say `accumulate` 2, or more"
        ) from error
    rate = timed.batch * timed.steps / timed.elapsed * ranks
    return Forecast(
        parameters=counted.parameters,
        flops=counted.flops * training.accumulate * ranks,
        memory=counted.memory,
        checkpoint=counted.checkpoint,
        batch=timed.batch,
        steps=timed.steps,
        images_per_s=rate,
        seconds=training.iterations * training.batch_size / rate,
        peak=timed.peak,
    )


def count(config: RunConfig, device: torch.device, slices: int) -> Count:
    """Counts the forward and backward passes of every phase, without doing their arithmetic.

    Args:
        config: From ``configure``.
        device: Where they will run.
        slices: Worked through at once.
    """
    where = device if device.type == "cuda" else torch.device("cpu")
    side = (slices, config.size, config.size)
    with compat.shapes_only(), where:
        model = make_model(config).train()
        if config.training.checkpointing:
            recompute_blocks(model)
        maps = [model.label_maps] if model.label_context else []
        labels = torch.zeros(slices, *maps, *side[1:], dtype=torch.int64)
        batch = Batch(torch.zeros(side)[:, None], labels)
        if model.window > 1:
            ones = torch.ones(slices // model.window, model.window)
            batch = replace(batch, windows=Windows(ones > 0, ones[:, 0], ones[:, 0]))
        if config.training.accumulate == 1:
            batch = replace(batch, fake=StepFake())
        rng = BatchRNG.at([("dry run", number) for number in range(slices)], where)
        phases = list(model.phases())
        kept = SavedActivations([*model.parameters(), *model.buffers()])
        with flop_counter() as counter:
            for phase in phases:
                freeze_others(model, phase)
                with autocast(where, config.training.precision), kept.counting():
                    loss = model.loss(phase.name, batch, rng)["loss"]
                loss.backward()
        weights = _bytes([*model.parameters(), *model.buffers()])
        learned = sum(_bytes(phase.parameters) for phase in phases)
        checkpoint = 2 * _bytes(model.state_dict().values()) + 2 * learned
    memory = {
        "weights": weights,
        "gradients": learned,
        "Adam": 2 * learned,
        "averages": weights,
        "activations": kept.most,
    }
    parameters = {phase.name: sum(p.numel() for p in phase.parameters) for phase in phases}
    return Count(parameters, counter.get_total_flops(), memory, checkpoint)


def measure(
    store: Store, config: RunConfig, device: torch.device, memory: dict[str, int], *, ranks: int = 1
) -> Timing:
    """Times optimizer steps on a run's own data.

    They are a rank's share of the run's own steps. On a CPU they are smaller, down to a single slice or window,
    where those take more than half of the memory, or where two of them may take longer than ``TRIAL_SECONDS``.

    Args:
        store: As for ``forecast``.
        config: As for ``forecast``.
        device: As for ``forecast``.
        memory: What ``count`` says.
        ranks: As for ``forecast``.
    """
    training, dataset = config.training, SliceDataset(store, "train")
    whole = training.batch_size // ranks

    def stepper(batch: int, *, compiled: bool) -> Stepper:
        parts = training.accumulate if batch == whole else 1
        settings = replace(training, batch_size=batch, accumulate=parts, compile=compiled)
        run = replace(config, training=settings)
        return Stepper(run, dataset, device=device, precision=training.precision)

    least = config.window
    if device.type == "cpu":
        ours = stepper(least, compiled=False)
        duration = _elapsed(ours)
        if duration < TRIAL_SECONDS / 2:  # a first step is several times slower than the second
            duration = min(duration, _elapsed(ours))
        batch = least * _affordable(duration, memory, whole // least, training.accumulate)
    else:
        batch = whole
    if device.type != "cpu" or batch > least or training.compile:
        ours = stepper(batch, compiled=training.compile)
        _elapsed(ours)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = [_elapsed(ours)]
    while len(times) < MOST_STEPS and sum(times) < TRIAL_SECONDS:
        times.append(_elapsed(ours))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Timing(batch, len(times), sum(times), peak)


def _affordable(duration: float, memory: dict[str, int], whole: int, accumulate: int) -> int:
    """How many slices (or windows) a timed step may have, where one on a single one takes that many seconds."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    left = half - sum(memory.values()) + memory["activations"]
    at_once = int(left / memory["activations"] * whole / accumulate)
    fitting = whole if at_once * accumulate >= whole else at_once
    return max(1, min(whole, fitting, int(TRIAL_SECONDS / 2 / duration)))


def _elapsed(stepper: Stepper) -> float:
    """Seconds of an optimizer step."""
    start = time.perf_counter()
    stepper.advance(Stop())
    if stepper.device.type != "cpu":
        torch.accelerator.synchronize(stepper.device)
    return time.perf_counter() - start


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _size(size: float) -> str:
    return f"{_short(size / 1e9)} GB" if size >= 1e9 else f"{_short(size / 1e6)} MB"


def _duration(seconds: float) -> str:
    """A duration in words: 41 s, 7 min, 3.5 h, 12 days."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{_short(seconds / unit)} {name}"
    return f"{_short(seconds / 86_400)} days"
