"""Speed figures, each a ratio against a named peer: ``python -m tests.benchmarks`` from the repository's root.

With ``--write`` each row is appended to cpu.jsonl as soon as it is measured, and the page is made from the last of
each row there: so the rows may be measured in several calls, and what a broken call had measured is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from . import attention, evaluations, ranks, scores, starts, steps, volumes
from .row import Figure, measure
from .words import amount, machine

PARTS = (steps, attention, evaluations, scores, volumes, starts, ranks)
ROWS = {row.name: row for part in PARTS for row in part.ROWS}
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
RESULTS = Path(__file__).with_name("cpu.jsonl")
NUMBERS = ("ours", "peers", "low", "ratio", "high", "apart")
"""Of a ``Figure``."""

HEAD = """# How fast

Ours and a named peer, measured alternately (A B A B) in one process, a new one for each row: median and quartiles
of the ratio over {pairs} pairs or more. Times are CPU seconds, so other jobs on the machine do not count. Below 1
ours is faster, or smaller; "hold" is the bound that a change must not exceed. "Apart"
is by how much what both found differs, as a share of the largest number; of the slices, whose filters are not the
same, the mean; "on" is the day. The peers' training steps are those of their own loops, without VGG; ours is the
trainer's, with its running averages and its look for NaN. The evaluations are those of voxels whose organ is
known: of a mixture that no label separates dpm++ takes 25 to 30 to be as near as 250 DDIM steps, 0.10 to 0.12 and
not within the 0.08 ([architecture.md](architecture.md)).

Two workers of `score` gain only where a core is free: by the clock 0.71 of one process with both cores before all
other jobs, in the row below, and 1.39 beside eight other jobs at a load of 10.

<!-- not run: it takes an hour and the peers' code -->
```sh
python -m tests.benchmarks --official DIR --write
```

DIR holds checkouts called SPADE, OASIS, semantic-diffusion-model, improved-diffusion and
pytorch-CycleGAN-and-pix2pix. Not measured here: anything on a GPU, for which there is
`python -m tests.benchmarks.gpu`. What scoring the paper's 6,559 pairs takes, in time and in memory, is worked out
from such rates in [metrics.md](metrics.md#what-it-costs-the-papers-6559-pairs).
"""


def main() -> int:
    """Measures what was asked for; 1 if a ratio is not held."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ROWS)}; without any, all")
    parser.add_argument(
        "--official", type=Path, default=Path("official"), metavar="DIR", help="the peers' checkouts"
    )
    parser.add_argument("--pairs", type=int, default=7, help="how often each side is measured")
    parser.add_argument("--write", action="store_true", help=f"keep what is measured, and write docs/{PAGE.name}")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of each row's process
    torch.set_num_threads(1)
    if unknown := set(asked.names) - set(ROWS):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    figures, absent = [], {}
    for name in asked.names or ROWS:
        print(name, end=" ", file=sys.stderr, flush=True)
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                figures.append(process.submit(measure, ROWS[name], asked.official, asked.pairs).result())
            print(f"{figures[-1].ratio:.3f}", file=sys.stderr)
            if asked.write:
                keep(figures[-1], asked.pairs)
        except ModuleNotFoundError as error:
            absent[name] = str(error)
            print("left out", file=sys.stderr)
    console = Console(width=80, highlight=False)
    console.print(table(figures), *(f"{name} is left out: {why}" for name, why in absent.items()), sep="\n")
    if asked.write:
        PAGE.write_text(page(kept(RESULTS.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    return int(not all(map(held, figures)))


def held(figure: Figure) -> bool:
    return figure.row.hold is None or figure.ratio <= figure.row.hold


def table(figures: list[Figure]) -> Table:
    shown = Table("quantity", "peer")
    for heading in ("ours", "peer's", "ratio", "hold"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for figure in figures:
        color = "green" if held(figure) else "red"
        quantity, peer, ours, peers, ratio, _, hold, _ = cells(figure)
        shown.add_row(quantity, peer, ours, peers, f"[{color}]{ratio}", hold)
    return shown


def keep(figure: Figure, pairs: int) -> None:
    content = {name: getattr(figure, name) for name in NUMBERS}
    content |= {"name": figure.row.name, "pairs": pairs, "where": machine()}
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


def kept(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What is kept of each row's last figure, in the order of the page."""
    found = {content["name"]: content for content in map(json.loads, lines)}
    return {name: found[name] for name in ROWS if name in found}


def page(last: dict[str, dict[str, Any]]) -> str:
    headings = ("quantity", "peer", "ours", "peer's", "ratio", "quartiles", "hold", "apart", "on")
    lines = [headings, ("---", "---", *["--:"] * 7)]
    for name, content in last.items():
        figure = Figure(ROWS[name], **{number: content[number] for number in NUMBERS})
        lines.append((*cells(figure), content["where"].split(",")[0]))
    pairs, places = min(one["pairs"] for one in last.values()), sorted({one["where"] for one in last.values()})
    parts = [HEAD.format(pairs=pairs), *places, "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    absent = [name for name in ROWS if name not in last]
    parts += [f"Not measured: {', '.join(absent)}."] if absent else []
    return "\n\n".join(part.strip() for part in parts) + "\n"


def cells(figure: Figure) -> tuple[str, ...]:
    row = figure.row
    ours, peers = (amount(value, row.unit) for value in (figure.ours, figure.peers))
    digits = 3 if row.hold is not None and row.hold < 0.1 else 2
    ratio, low, high = (f"{value:.{digits}f}" for value in (figure.ratio, figure.low, figure.high))
    hold = "" if row.hold is None else f"{row.hold:.{digits}f}"
    apart = "" if figure.apart is None else f"{figure.apart:.0e}" if figure.apart else "0"
    return row.quantity, row.peer, ours, peers, ratio, f"{low} to {high}", hold, apart


if __name__ == "__main__":
    sys.exit(main())
