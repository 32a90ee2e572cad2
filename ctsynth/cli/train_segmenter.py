"""``ctsynth train-segmenter``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ctsynth.cli import _training as shared
from ctsynth.cli._settings import settings_options
from ctsynth.config import TrainingConfig

NETWORK = "unet2d"

DEFAULTS = {
    "iterations": "30000; small 5000; tiny 800",
    "batch_size": "16; small 8; tiny 4",
}
"""Defaults of the segmenter's presets, where they differ from those of ``TrainingConfig``."""


@settings_options(
    {
        shared.DATA: ["tensorboard"],
        shared.NET: [],
        shared.COST: [
            *("iterations", "batch_size", "lr", "ema", "seed", "save_every", "keep_every", "sample_every"),
        ],
        shared.RUN: ["precision"],
    },
    defaults=DEFAULTS,
    training=TrainingConfig,
)
def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Slice store of `ctsynth preprocess`.")] = Path(
        "out"
    ),
    out: Annotated[Path, typer.Option(help="The run's folder.", rich_help_panel=shared.DATA)] = Path(
        "runs/segmenter"
    ),
    resume: shared.Resume = True,
    overwrite: shared.Overwrite = False,
    preset: Annotated[
        Literal["default", "small", "tiny"] | None,
        typer.Option(
            help="small and tiny suit a CPU.",
            show_default="default on a GPU, else small",
            rich_help_panel=shared.NET,
        ),
    ] = None,
    set_: shared.Set = None,
    gpus: shared.Gpus = None,
    ranks: shared.Ranks = None,
    device: shared.Device = "auto",
    *,
    training: dict[str, Any],
) -> None:
    """Train a small 2-D U-Net that finds the organs in a CT slice.

    The stand-in for TotalSegmentator where that cannot be had. Learns from the
    real training slices of a store, by the same loop as `ctsynth train`: the
    same command continues an interrupted run, bit for bit.

        ctsynth train-segmenter out
        ctsynth train-segmenter out --preset tiny --out runs/quick
        ctsynth score samples --data out --segmenter runs/segmenter

    Its Dice compares methods with one another on this store, not with a
    published Dice. Prints the run's folder.
    """
    from ctsynth.stop import Stop

    with Stop() as stop:
        shared.check_batch(training, gpus or ranks)

        from ctsynth.data.store import Store
        from ctsynth.training.configure import configure

        place = shared.find_place(device, gpus, ranks)
        store = Store.open(data)
        config = configure(
            store,
            NETWORK,
            preset=preset or "auto",
            options=shared.parse(set_),
            training=training,
            device=place.device,
        )
        shared.fit(store, out, config, place, stop, resume=resume, overwrite=overwrite)
