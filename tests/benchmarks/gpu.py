"""Training and sampling on a GPU beside improved-diffusion's own: ``python -m tests.benchmarks.gpu``.

Each row is appended to ``--results`` as soon as it is measured, and the page is made from that file: so the rows
may be measured in several calls, and what a broken call had measured is kept. Rows called ``compiled`` take
minutes each, as they begin with an empty cache.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from ctsynth.device import find_device
from ctsynth.errors import UsageError

from . import gpu_page as shown
from . import gpu_sides as sides
from .gpu_costs import Costs, our_costs
from .gpu_page import PAGE, Results
from .gpu_sides import Missing, Setting, Taken, attempt

LAST, MASK = torch.channels_last, "ddpm-mask"
RESULTS = Path(__file__).with_name("gpu.jsonl")
FORMS = {"Taken": Taken, "Missing": Missing, "Costs": Costs}


def main(words: list[str] | None = None) -> int:
    """Measures rows; 1 if a ratio is not held or a row of ours broke, 2 without the device that is asked for."""
    parser = _parser()
    asked = parser.parse_args(words)
    if asked.write and asked.device != "cuda":
        parser.error("--write goes with --device cuda only: a CPU's numbers must not stand on a GPU's page")
    there = rows(asked)
    if unknown := set(asked.only or ()) - set(there):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are: {', '.join(there)}")
    try:
        asked.device = find_device(asked.device)
    except UsageError as error:
        print(f"there is no CUDA device: {error.message}; {error.hint}", file=sys.stderr)
        return 2
    device = torch.cuda.get_device_name(asked.device) if asked.device.type == "cuda" else "CPU"
    where = shown.where(asked.device, device)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)  # an older one holds what was compiled before
        for name in asked.only or there:
            append(asked.results, name, attempt(name, there[name]), where)
    results, places = read(asked.results)
    bounds = shown.to_hold(results, asked, device)
    console = Console(width=110, highlight=False, markup=False)
    console.print(*places, sep="\n")
    sheets = [*shown.sheets(results, asked), shown.held(bounds)]
    for sheet in sheets:
        console.print("", sheet.screen(), *sheet.notes, sep="\n")
    if asked.write:
        PAGE.write_text(shown.page(asked, places, sheets), encoding="utf-8")
    broken = any(isinstance(taken, Missing) and taken.broken for taken in results.values())
    return int(broken or not all(bound.held for bound in bounds))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--official",
        type=Path,
        default=Path("official"),
        metavar="DIR",
        help=f"where {shown.PEER}'s checkout lies",
    )
    parser.add_argument("--only", nargs="+", metavar="ROW", help="measure these rows; by default all")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="appended to")
    parser.add_argument("--store", type=Path, metavar="DIR", help="slices that the rows called loop read")
    parser.add_argument("--size", type=int, default=256, help="side of a slice, pixels; a multiple of 32")
    parser.add_argument("--batch-size", type=int, default=16, help="slices of a training step, and of the peer's")
    parser.add_argument("--repeats", type=int, default=7, help="calls that are timed of each side")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for a trial")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    return parser


def rows(asked: argparse.Namespace) -> dict[str, Callable[[], Taken | Costs]]:
    """What can be measured, by name, the shortest first."""
    half = "bf16" if asked.device == "cuda" else "fp32"
    plain = Setting(precision=half)
    last, search = Setting(precision=half, layout=LAST), Setting(precision=half, search=True)
    compiled, compiled_last = (Setting(precision=half, layout=it, compiled=True) for it in (plain.layout, LAST))
    train, draw = partial(partial, sides.our_training, asked), partial(partial, sides.our_sampling, asked)
    batch = asked.batch_size
    return {
        "train-peer": partial(sides.peer_training, asked),
        "train": train(plain),
        "train-channels-last": train(last),
        "train-search": train(search),
        "train-fp32": train(Setting(precision="fp32")),
        "train-mask": train(Setting(method=MASK, precision=half)),
        "loop": partial(sides.our_loop, asked, plain),
        "checkpoint": partial(sides.our_checkpoint, asked, Setting(method=MASK, precision=half)),
        "costs": partial(our_costs, asked, plain),
        "sample-peer": partial(sides.peer_sampling, asked),
        **{f"sample-{count}": draw(count, plain, 20) for count in (1, 16, 64)},
        "sample-10": draw(batch, plain, 10),
        "sample-channels-last": draw(batch, last, 20),
        "sample-search": draw(batch, search, 20),
        "sample-compiled": draw(batch, compiled, 20),
        "sample-compiled-channels-last": draw(batch, compiled_last, 20),
        "train-compiled": train(compiled),
        "train-compiled-channels-last": train(compiled_last),
        "train-mask-compiled": train(Setting(method=MASK, precision=half, compiled=True)),
        "loop-compiled": partial(sides.our_loop, asked, compiled),
        "costs-compiled": partial(our_costs, asked, compiled),
    }


def append(file: Path, row: str, taken: Taken | Costs | Missing, where: str) -> None:
    """Adds a row to the results, with what it was measured on."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"row": row, "form": type(taken).__name__, "where": where, **asdict(taken)}) + "\n")


def read(file: Path) -> tuple[Results, list[str]]:
    """The last result of each row, and what these were measured on."""
    results: Results = {}
    places = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        row, form, places[row] = fields.pop("row"), FORMS[fields.pop("form")], fields.pop("where")
        results[row] = form(**fields)
    return results, list(dict.fromkeys(places.values()))


if __name__ == "__main__":
    sys.exit(main())
