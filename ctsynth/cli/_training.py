"""What ``ctsynth train`` and ``ctsynth train-segmenter`` share: options, ranks, the run's folder."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ctsynth.cli import console
from ctsynth.cli._threads import load_over_cores
from ctsynth.errors import Interrupted, RunError, UsageError
from ctsynth.shards import ranks as scheduled

if TYPE_CHECKING:
    import torch

    from ctsynth.config import RunConfig
    from ctsynth.data.store import Store
    from ctsynth.stop import Stop
    from ctsynth.training.distributed import World

DATA, NET, COST, RUN = "Data and run", "Method", "Optimization", "Machine"

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting of the method, such as channels=96.", rich_help_panel=NET
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Continue an existing run, or refuse.", rich_help_panel=DATA),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Delete an existing run and start again.", rich_help_panel=DATA)
]
Gpus = Annotated[
    int | None,
    typer.Option(help="GPUs of this machine.", show_default="1 where there is one", rich_help_panel=RUN),
]
Ranks = Annotated[
    int | None,
    typer.Option(
        min=1, help="With --device cpu: processes that share each batch.", show_default="1", rich_help_panel=RUN
    ),
]
Device = Annotated[
    Literal["auto", "cuda", "mps", "cpu"], typer.Option(help="Where to train.", rich_help_panel=RUN)
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is trained.

    Args:
        device: This process's device.
        world: The ranks that it is one of.
        ranks: How many there should be.
    """

    device: torch.device
    world: World
    ranks: int


def check_batch(training: Mapping[str, Any], ranks: int | None) -> None:
    """Refuses a batch that the ranks cannot share, before torch is imported if the batch size is given.

    Args:
        training: The training settings that were named.
        ranks: As ``--gpus`` or ``--ranks`` says.

    Raises:
        UsageError: They cannot. Only the first rank reports it; the others exit with the same code.
    """
    from ctsynth.config import check_ranks

    size, accumulate = training.get("batch_size"), training.get("accumulate", 1)
    count = max(scheduled()[1], ranks or 1)
    if count > 1 and isinstance(size, int) and isinstance(accumulate, int) and accumulate > 0:
        _report_once(partial(check_ranks, size, accumulate, count))


def _report_once(check: Callable[[], None]) -> None:
    try:
        check()
    except UsageError as error:
        if scheduled()[0] == 0:
            raise
        raise typer.Exit(error.exit_code) from None


def find_place(device: str, gpus: int | None, ranks: int | None) -> Place:
    """Where this process trains, and how many ranks there should be.

    Raises:
        UsageError: There are no such GPUs, or the options contradict one another.
    """
    import torch

    from ctsynth.device import check_gpus, find_device
    from ctsynth.training.distributed import find_world

    world = find_world()
    if gpus is not None and world.size == 1:
        check_gpus(gpus)
    if gpus is not None and device in ("cpu", "mps"):
        raise UsageError(f"--gpus {gpus} with --device {device}: name one of the two")
    where = find_device(device)
    if ranks is not None and where.type != "cpu":
        raise UsageError(f"--ranks {ranks} is for --device cpu", hint=f"say --gpus {ranks}")
    if where.type == "cuda" and world.size > 1:
        has_its_own = "RANK" not in os.environ and torch.cuda.device_count() == 1  # srun --gpus-per-task
        number = 0 if has_its_own else world.local_rank
        check_gpus(number + 1)
        where = torch.device("cuda", number)
    return Place(where, world, gpus or ranks or 1)


def fit(
    store: Store, run: Path, config: RunConfig, place: Place, stop: Stop, *, resume: bool, overwrite: bool
) -> None:
    """Trains a run on all its ranks, starts them first if need be, and prints the run's folder."""
    from ctsynth.files import sole
    from ctsynth.outputs import refuse_inputs
    from ctsynth.training.distributed import joined
    from ctsynth.training.run import train
    from ctsynth.training.run_folder import make_way

    world = place.world
    _report_once(partial(config.training.check_ranks, max(place.ranks, world.size), config.window))
    if place.ranks > 1 and world.size == 1:
        from ctsynth.training.launch import launch

        console.log.info("%d ranks on this machine", place.ranks)
        raise typer.Exit(launch(sys.argv[1:], place.ranks, stop))
    if not world.is_first:
        console.log.setLevel(logging.WARNING)
    lock = sole(run / ".train.lock") if world.is_first else nullcontext()
    try:
        with lock, joined(world, place.device):
            if world.is_first:
                refuse_inputs([run], [store.root])
                make_way(run, resume=resume, overwrite=overwrite)
                _say(config, place, run)
            config = world.of_first(config)  # one node may have VGG's weights, and another not
            with console.progress("train", config.training.iterations) as progress:
                train(store, run, config, device=place.device, stop=stop, progress=progress, world=world)
    except (Interrupted, RunError) as error:  # on all ranks at once: the first tells it
        if world.is_first:
            raise
        raise typer.Exit(error.exit_code) from None
    if world.is_first:
        console.echo(str(run))


def parse(pairs: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE as TOML has it; a bare word is a string.

    Raises:
        UsageError: One has no key, or no equals sign.
    """
    import tomllib

    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair!r}: wanted KEY=VALUE, such as channels=96")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            settings[key] = value
    return settings


def _say(config: RunConfig, place: Place, run: Path) -> None:
    import torch

    settings, ranks = config.training, place.world.size
    subjects = config.data["subjects"]
    where = f"{ranks} ranks on {place.device.type}" if ranks > 1 else str(place.device)
    if settings.epochs:
        console.log.info("%d epochs are %s iterations", settings.epochs, f"{settings.iterations:,}")
    console.log.info(
        "%s, preset %s, %s, %s%s: %d slices of %d %s -> %s",
        config.method, config.preset, where, settings.precision, ", compiled" if settings.compile else "",
        config.data["slices"], subjects, "subject" if subjects == 1 else "subjects", run,
    )  # fmt: skip
    if settings.compile:
        console.log.info("compiling at the first step, which takes minutes; --no-compile turns it off")
    if place.device.type == "cpu" and torch.get_num_threads() > 1 and (busy := load_over_cores()):
        words = "other jobs use this machine: a load of %.1f on %d cores; OMP_NUM_THREADS=1 may be faster"
        console.log.info(words, *busy)
    if config.preset in ("small", "tiny"):
        from ctsynth.trainable import find_model

        largest = next(iter(find_model(config.method).presets))
        console.log.info("--preset %s is the full network and training; it needs a GPU", largest)
