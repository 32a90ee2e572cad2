"""What was measured on a GPU, as tables for the screen and for docs/benchmarks_gpu.md."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from rich import box
from rich.table import Table

from . import gpu_sides as sides
from .gpu_costs import PROFILED, Costs
from .gpu_sides import Missing, Taken
from .steps import STEPS
from .words import amount, machine

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks_gpu.md"
FUSED, ARITHMETIC = 402, 529
"""Slices of 256 x 256 a second that an H200 could train on at most, batch 16."""

LIMIT_SIZE = 256
PEER = "improved-diffusion"
SAMPLING_NOTE = (
    f"Ours draws with DPM-Solver++(2M); the peer's {sides.PEER_STEPS:,} ancestral steps are worked out from"
    f" {STEPS} of them."
)

Results = dict[str, Taken | Missing | Costs]
"""By the name of the row."""

HEAD = """# How fast on a GPU

The paper preset, slices of {size} x {size}, batches of {batch} in training, beside improved-diffusion's code as
it is written: its training step is `TrainLoop.run_step` with its own fp16, ours the trainer's with its running
averages. Times are by the clock, with the GPU waited for before and after each call: the median of {repeats},
after {warm} that do not count. `host` is the time until the last kernel was launched: where it is all of the
step, the GPU waits for Python. A ratio is ours / the peer's: below 1 ours is the faster. `compile` is what the
first call takes longer than a later one.

<!-- not run: it needs a GPU and the peer's code -->
```sh
python -m tests.benchmarks.gpu --official DIR --store STORE --write
```

DIR holds a checkout called improved-diffusion, STORE is a folder of `ctsynth preprocess`. The limits of a
training step are computed, for an H200 with 790 TFLOP/s of dense bf16 and 4.8 TB/s, and for slices of 256 x
256: {arithmetic} a second by arithmetic alone, {fused} with the memory traffic that is left when norms and
activations are fused. Of another GPU the shares say little, and the first ratio to hold is not asked of it.
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


def sheets(results: Results, asked: argparse.Namespace) -> list[Sheet]:
    """All tables."""
    found = [training(results, asked.size), sampling(results)]
    return [*found, *(costs(taken) for taken in results.values() if isinstance(taken, Costs))]


def part(results: Results, *beginnings: str) -> list[Taken]:
    """The rows that were measured, of those whose name begins so."""
    return [taken for row, taken in results.items() if row.startswith(beginnings) and isinstance(taken, Taken)]


def left_out(results: Results, *beginnings: str) -> tuple[str, ...]:
    """A sentence for each row that could not be measured."""
    return tuple(
        f"Left out: {row} ({taken.why})."
        for row, taken in results.items()
        if row.startswith(beginnings) and isinstance(taken, Missing)
    )


def training(results: Results, size: int) -> Sheet:
    headings = ("training", "ms", "host", "img/s", f"of {FUSED}", f"of {ARITHMETIC}", "memory", "compile", "ratio")
    rows, peer, names = [], results.get("train-peer"), ("train", "loop", "checkpoint")
    for taken in part(results, *names):
        rate, is_checkpoint = taken.slices / taken.seconds, "checkpoint" in taken.name
        shares = [
            f"{rate / limit:.2f}" if size == LIMIT_SIZE and not is_checkpoint else ""
            for limit in (FUSED, ARITHMETIC)
        ]
        host = "" if taken.host is None else f"{taken.host * 1e3:.4g}"
        img_s = "" if is_checkpoint else f"{rate:.4g}"
        more = ("", "", "") if is_checkpoint else _more(taken, peer)
        rows.append((taken.name, f"{taken.seconds * 1e3:.4g}", host, img_s, *shares, *more))
    return Sheet("Training", headings, rows, left_out(results, *names))


def sampling(results: Results) -> Sheet:
    headings = ("sampling", "s a slice", "memory", "compile", "ratio")
    peer = results.get("sample-peer")
    rows = [(taken.name, f"{taken.a_slice:.3g}", *_more(taken, peer)) for taken in part(results, "sample")]
    return Sheet("Sampling", headings, rows, (SAMPLING_NOTE, *left_out(results, "sample")))


def _more(taken: Taken, peer: Taken | Missing | Costs | None) -> tuple[str, ...]:
    memory = "" if taken.peak is None else amount(taken.peak, "B")
    compiling = "" if taken.compiling is None else f"{taken.compiling:.3g} s"
    ratio = f"{taken.a_slice / peer.a_slice:.3g}" if isinstance(peer, Taken) and taken is not peer else ""
    return memory, compiling, ratio


def costs(found: Costs) -> Sheet:
    rows = [(name, f"{100 * share:.1f} %", f"{1e3 * share * found.seconds:.2f}") for name, share in found.largest]
    whose = "CPU" if found.waits is None else "GPU"
    note = f"Of {1e3 * found.seconds:.4g} ms of the {whose}'s time in a training step, over {PROFILED} steps."
    if found.waits is not None:
        note += f" Times that the host waits for the GPU within a step: {found.waits}."
    return Sheet(f"Largest costs: {found.name}", ("operation", "share", "ms"), rows, (note,))


def to_hold(results: Results, asked: argparse.Namespace, device: str) -> list[Bound]:
    """What can be judged: the share of the limit at the size and on the device that it was computed for."""
    bounds, peer, drawn = [], results.get("train-peer"), results.get("sample-peer")
    ours = [taken for taken in part(results, "train") if taken is not peer]
    if ours:
        best = min(ours, key=lambda taken: taken.a_slice)
        if asked.size == LIMIT_SIZE and "H200" in device:
            share = 1 / best.a_slice / FUSED
            bounds.append(Bound(f"share of the limit of {FUSED} img/s, {best.name}", share, 0.5, at_least=True))
        if isinstance(peer, Taken):
            bounds.append(Bound(f"training step / {PEER}'s, {best.name}", best.a_slice / peer.a_slice, 1 / 2.5))
    ours = [taken for taken in part(results, "sample") if taken is not drawn and "20 evaluations" in taken.name]
    if ours and isinstance(drawn, Taken):
        best = min(ours, key=lambda taken: taken.a_slice)
        bounds.append(Bound(f"sampling / {PEER}'s, {best.name}", best.a_slice / drawn.a_slice, 0.01))
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


def page(asked: argparse.Namespace, places: list[str], sheets: list[Sheet]) -> str:
    """The whole page; ``places`` says on what the rows were measured."""
    head = HEAD.format(
        size=asked.size,
        batch=asked.batch_size,
        repeats=asked.repeats,
        warm=sides.WARM_UP + 1,
        fused=FUSED,
        arithmetic=ARITHMETIC,
    )
    parts = [head, *places, *(sheet.markdown() for sheet in sheets)]
    return "\n\n".join(part.strip() for part in parts) + "\n"
