"""What was measured on a GPU, as tables for the screen and for docs/benchmarks_gpu.md."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich import box
from rich.table import Table

from . import gpu_sides as sides
from .gpu_costs import PROFILED, Costs
from .gpu_sides import Missing, Setting, Taken
from .steps import STEPS
from .words import amount, machine

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks_gpu.md"
FUSED, ARITHMETIC = 402, 529
"""Slices of 256 x 256 a second that an H200 could train on at most, batch 16."""

LIMIT_SIZE = 256
PEER = "improved-diffusion"
SAMPLING_NOTE = (
    f"Ours draws in 20 evaluations, DPM-Solver++(2M); the peer's {sides.PEER_STEPS:,} ancestral steps are worked"
    f" out from {STEPS} of them."
)

Training = dict[Setting | None, Taken | Missing]
"""By setting; None is the peer."""

Sampling = dict[tuple[Setting | None, int], Taken | Missing]
"""The same, and by batch."""

HEAD = """# How fast on a GPU

ddpm-concat with the paper preset, slices of {size} x {size}, beside improved-diffusion's code as it is written:
its training step is `TrainLoop.run_step` with its own fp16, ours the trainer's with its running averages. By the
clock, with the GPU waited for before and after each call: the median of {repeats}, after {warm} that do not count.
Each side is alone on the GPU, and its memory is the most that was allocated meanwhile. A ratio is ours / the
peer's: below 1 ours is the faster.

    python -m tests.benchmarks.gpu --official DIR --write

DIR holds a checkout called improved-diffusion. The limits of a training step are computed, for an H200 with 790
TFLOP/s of dense bf16 and 4.8 TB/s, and for slices of 256 x 256: {arithmetic} a second by arithmetic alone, {fused}
with the memory traffic that is left when norms and activations are fused. Of another GPU the shares say little,
and the first ratio to hold is not asked of it. `compile` is what the first call takes longer than a later one.
"""


@dataclass(frozen=True)
class Sheet:
    """A table, for the screen and for the page."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def screen(self) -> Table:
        """All but the notes."""
        shown = Table(title=self.title, title_justify="left", box=box.SIMPLE, show_edge=False, pad_edge=False)
        for number, heading in enumerate(self.headings):
            shown.add_column(heading, justify="right" if number else "left")
        for row in self.rows:
            shown.add_row(*row)
        return shown

    def markdown(self) -> str:
        lines = [self.headings, ("---", *["--:"] * (len(self.headings) - 1)), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([f"## {self.title}", table, *self.notes])


@dataclass(frozen=True)
class Bound:
    """A number to hold."""

    quantity: str
    value: float
    wanted: float
    at_least: bool = False

    @property
    def held(self) -> bool:
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted

    @property
    def cells(self) -> tuple[str, ...]:
        sense = "at least" if self.at_least else "at most"
        return self.quantity, f"{self.value:.3g}", f"{sense} {self.wanted:g}", "held" if self.held else "not held"


def fastest(training: Training) -> Setting | None:
    """Of our settings."""
    ours = {setting: taken.seconds for setting, taken in training.items() if setting and isinstance(taken, Taken)}
    return min(ours, key=ours.__getitem__, default=None)


def training(measured: Training, size: int) -> Sheet:
    headings = ("training step", "ms", "img/s", f"of {FUSED}", f"of {ARITHMETIC}", "memory", "compile", "ratio")
    rows = []
    for setting, taken in measured.items():
        if isinstance(taken, Taken):
            rate = taken.slices / taken.seconds
            shares = [f"{rate / limit:.2f}" if size == LIMIT_SIZE else "" for limit in (FUSED, ARITHMETIC)]
            speed = (f"{taken.seconds * 1e3:.4g}", f"{rate:.4g}", *shares)
            rows.append((str(setting or PEER), *speed, *_more(taken, measured[None])))
    notes = _left_out({str(setting or PEER): taken for setting, taken in measured.items()})
    return Sheet("Training", headings, rows, notes)


def sampling(measured: Sampling, batch_size: int) -> Sheet:
    headings = ("sampling", "batch", "s a slice", "memory", "compile", "ratio")
    rows = []
    for (setting, batch), taken in measured.items():
        if isinstance(taken, Taken):
            more = _more(taken, measured[None, batch_size])
            rows.append((str(setting or PEER), str(batch), f"{taken.a_slice:.3g}", *more))
    names = {f"{setting or PEER}, batch {batch}": taken for (setting, batch), taken in measured.items()}
    return Sheet("Sampling", headings, rows, (SAMPLING_NOTE, *_left_out(names)))


def _more(taken: Taken, peer: Taken | Missing) -> tuple[str, ...]:
    memory = "" if taken.peak is None else amount(taken.peak, "B")
    compiling = "" if taken.compiling is None else f"{taken.compiling:.3g} s"
    ratio = f"{taken.a_slice / peer.a_slice:.3g}" if isinstance(peer, Taken) and taken is not peer else ""
    return memory, compiling, ratio


def _left_out(measured: Mapping[str, Taken | Missing]) -> tuple[str, ...]:
    return tuple(f"Left out: {name} ({it.why})." for name, it in measured.items() if isinstance(it, Missing))


def costs(found: Costs | Missing) -> Sheet:
    title, headings = "Largest costs", ("operation", "share")
    if isinstance(found, Missing):
        return Sheet(title, headings, [], _left_out({"the profile": found}))
    rows = [(name, f"{100 * share:.0f} %") for name, share in found.largest]
    whose = "CPU" if found.waits is None else "GPU"
    note = f"Shares of the {whose}'s time in {PROFILED} training steps, {found.setting}."
    if found.waits is not None:
        note += f" Times that the host waits for the GPU within a step: {found.waits}."
    return Sheet(title, headings, rows, (note,))


def to_hold(trained: Training, sampled: Sampling, asked: argparse.Namespace, device: str) -> list[Bound]:
    """What can be judged: the share of the limit at the size and on the device that it was computed for."""
    bounds, best, peer = [], fastest(trained), trained[None]
    if best is not None:
        seconds = trained[best].seconds
        if asked.size == LIMIT_SIZE and "H200" in device:
            share = asked.batch_size / seconds / FUSED
            bounds.append(Bound(f"share of the limit of {FUSED} img/s, {best}", share, 0.5, at_least=True))
        if isinstance(peer, Taken):
            bounds.append(Bound(f"training step / {PEER}'s, {best}", seconds / peer.seconds, 1 / 2.5))
    drawn = [
        taken.seconds
        for (setting, batch), taken in sampled.items()
        if setting and batch == asked.batch_size and isinstance(taken, Taken)
    ]
    peer = sampled[None, asked.batch_size]
    if drawn and isinstance(peer, Taken):
        quantity = f"sampling in 20 evaluations / {PEER}'s in {sides.PEER_STEPS:,}, batch {asked.batch_size}"
        bounds.append(Bound(quantity, min(drawn) / peer.seconds, 0.01))
    return bounds


def held(bounds: list[Bound]) -> Sheet:
    return Sheet("Ratios to hold", ("quantity", "value", "hold", ""), [bound.cells for bound in bounds])


def where(device: torch.device, name: str) -> str:
    """On what this was measured, and which products were in TF32."""
    if device.type != "cuda":
        return f"A trial on a CPU, no GPU's numbers. {machine()}"
    memory = amount(torch.cuda.get_device_properties(device).total_memory, "B")
    convolutions, products, search = (
        "on" if flag else "off"
        for flag in (
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.benchmark,
        )
    )
    return (
        f"{name}, {memory}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}; {machine()}"
        f" In fp32, TF32 was {convolutions} for convolutions and {products} for matrix products; cuDNN's search"
        f" for the fastest convolution was {search}."
    )


def page(asked: argparse.Namespace, name: str, sheets: list[Sheet]) -> str:
    head = HEAD.format(
        size=asked.size, repeats=asked.repeats, warm=sides.WARM_UP + 1, fused=FUSED, arithmetic=ARITHMETIC
    )
    parts = [head, where(asked.device, name), *(sheet.markdown() for sheet in sheets)]
    return "\n\n".join(part.strip() for part in parts) + "\n"
