"""Training and sampling on a GPU beside improved-diffusion's own: ``python -m tests.benchmarks.gpu``."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from ctsynth.device import Precision, find_device, find_precision
from ctsynth.errors import UsageError

from . import gpu_page as shown
from . import gpu_sides as sides
from .gpu_costs import our_costs
from .gpu_page import PAGE, PEER, Sampling, Training
from .gpu_sides import Missing, Setting, attempt


def main(words: list[str] | None = None) -> int:
    """Measures all; 1 if a ratio is not held or a side of ours broke, 2 without the device that is asked for."""
    parser = _parser()
    asked = parser.parse_args(words)
    if asked.write and asked.device != "cuda":
        parser.error("--write goes with --device cuda only: a CPU's numbers must not stand on a GPU's page")
    try:
        asked.device = find_device(asked.device)
    except UsageError as error:
        print(f"there is no CUDA device: {error.message}; {error.hint}", file=sys.stderr)
        return 2
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # an older one would hold what was compiled before
        training, sampling = measure_training(asked), measure_sampling(asked)
        sheets = [shown.training(training, asked.size), shown.sampling(sampling, asked.batch_size)]
        if (best := shown.fastest(training)) is not None:
            found = attempt(f"profile, {best}", partial(our_costs, asked, best))
            sheets.append(shown.costs(found))
    name = torch.cuda.get_device_name(asked.device) if asked.device.type == "cuda" else "CPU"
    bounds = shown.to_hold(training, sampling, asked, name)
    sheets.append(shown.held(bounds))
    console = Console(width=80, highlight=False, markup=False)
    console.print(shown.where(asked.device, name))
    for sheet in sheets:
        console.print("", sheet.screen(), *sheet.notes, sep="\n")
    if asked.write:
        PAGE.write_text(shown.page(asked, name, sheets), encoding="utf-8")
    ours = [taken for setting, taken in training.items() if setting]
    ours += [taken for (setting, _), taken in sampling.items() if setting]
    broken = any(isinstance(taken, Missing) and taken.broken for taken in ours)
    return int(broken or not all(bound.held for bound in bounds))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--official", type=Path, default=Path("official"), metavar="DIR", help=f"where a checkout of {PEER} lies"
    )
    parser.add_argument("--size", type=int, default=256, help="side of a slice, pixels; a multiple of 32")
    parser.add_argument("--batch-size", type=int, default=16, help="slices of a training step, and of the peer's")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 16, 64], help="slices that are drawn at once, each measured"
    )
    parser.add_argument("--repeats", type=int, default=7, help="calls that are timed of each side")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for a trial")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU, too")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    return parser


def measure_training(asked: argparse.Namespace) -> Training:
    """The peer's step, then ours in each setting."""
    taken: Training = {None: attempt(f"{PEER}'s step", partial(sides.peer_training, asked))}
    for setting in settings(asked):
        taken[setting] = attempt(f"our step, {setting}", partial(sides.our_training, asked, setting))
    return taken


def measure_sampling(asked: argparse.Namespace) -> Sampling:
    """The peer's at its batch, then ours as ``sample`` draws, without and with compiled blocks."""
    taken: Sampling = {
        (None, asked.batch_size): attempt(f"{PEER}'s sampling", partial(sides.peer_sampling, asked))
    }
    for setting in settings(asked):
        if setting.layout == torch.channels_last and setting.precision == half(asked):
            for batch in sorted({*asked.batches, asked.batch_size}):
                name = f"our sampling, {setting}, batch {batch}"
                taken[setting, batch] = attempt(name, partial(sides.our_sampling, asked, batch, setting))
    return taken


def half(asked: argparse.Namespace) -> Precision:
    """bf16 where the device has it."""
    return find_precision("auto", asked.device)


def settings(asked: argparse.Namespace) -> list[Setting]:
    """fp32; then in half precision NCHW, channels_last as the trainer has it on a GPU, and compiled."""
    found = [
        Setting(precision="fp32"),
        Setting(precision=half(asked), layout=torch.contiguous_format),
        Setting(precision=half(asked)),
    ]
    if asked.device.type == "cuda" or asked.compile:
        found.append(Setting(precision=half(asked), compiled=True))
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    sys.exit(main())
