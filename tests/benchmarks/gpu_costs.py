"""What takes a training step's time, by torch's profiler."""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ctsynth.stop import Stop
from ctsynth.training.stepper import Stepper

from .gpu_sides import WARM_UP, Setting, our_stepper, wait

PROFILED = 3
"""Training steps."""

LARGEST = 15
"""Operations that are listed."""

TRITON = "Triton kernels of the compiled networks"


@dataclass(frozen=True)
class Costs:
    """What takes a training step's time.

    Args:
        name: What was profiled.
        largest: Operations with their shares of the GPU's time, or of the CPU's where there is no GPU.
        seconds: Time of all operations in a step.
        waits: How often in a step the host waits for the GPU; None without one.
    """

    name: str
    largest: list[tuple[str, float]]
    seconds: float
    waits: int | None


def our_costs(asked: argparse.Namespace, setting: Setting) -> Costs:
    """Costs of ``PROFILED`` steps, after some that are not looked at."""
    on_gpu = asked.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    stepper = our_stepper(asked, setting)
    for _ in range(WARM_UP):
        stepper.advance(Stop())
    waits = _waits(stepper) if on_gpu else None
    wait(asked.device)
    with profile(activities=activities) as profiler:
        for _ in range(PROFILED):
            stepper.advance(Stop())
        wait(asked.device)
    time_spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found, whole = largest(profiler.key_averages(), time_spent)
    return Costs(str(setting), found, whole / PROFILED / 1e6, waits)


def _waits(stepper: Stepper) -> int:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stepper.advance(Stop())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)


def largest(events: Iterable[object], time_spent: str) -> tuple[list[tuple[str, float]], float]:
    """The operations that took most, each with its share of all, and the time of all in microseconds.

    A kernel's time is counted with the operation that launched it: not once more as an event of the GPU's own, nor
    with an annotation such as ``Optimizer.step``, which spans many.
    """
    spent = Counter()
    for event in events:
        if event.device_type == DeviceType.CPU and not event.is_user_annotation:
            spent[TRITON if event.key.startswith("triton_") else event.key] += getattr(event, time_spent)
    whole = sum(spent.values())
    return [(name, took / whole) for name, took in spent.most_common(LARGEST) if took], whole
