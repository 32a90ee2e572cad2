"""``ctsynth train-segmenter``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ctsynth.cli import _training as shared

NETWORK = "unet2d"


def command(
    data: Annotated[Path, typer.Argument(metavar="[DATA]", help="Slice store of `ctsynth preprocess`.")] = Path(
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
    iterations: Annotated[
        int | None,
        typer.Option(
            help="Optimizer steps.", show_default="30000; small 5000; tiny 800", rich_help_panel=shared.COST
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Slices a step.", show_default="16; small 8; tiny 4", rich_help_panel=shared.COST),
    ] = None,
    lr: shared.LearningRate = None,
    ema: shared.Ema = None,
    seed: shared.Seed = None,
    save_every: shared.SaveEvery = None,
    keep_every: shared.KeepEvery = None,
    sample_every: shared.SampleEvery = None,
    gpus: shared.Gpus = None,
    ranks: shared.Ranks = None,
    device: shared.Device = "auto",
    precision: shared.Precision = None,
    tensorboard: shared.TensorBoard = None,
) -> None:
    """Train a small 2-D U-Net that finds the organs in a CT slice.

    The stand-in for TotalSegmentator where that cannot be had. Learns from the
    real training slices of a store, by the same loop as `ctsynth train`: the
    same command continues a run that was broken off, bit for bit.

        ctsynth train-segmenter out
        ctsynth train-segmenter out --preset tiny --out runs/quick
        ctsynth score samples --data out --segmenter runs/segmenter

    Its Dice compares methods with one another on this store, not with a
    published Dice. Prints the run's folder.
    """
    from ctsynth.stop import Stop

    with Stop() as stop:
        shared.check_batch(shared.given({"batch_size": batch_size}), gpus or ranks)

        from ctsynth.data.store import Store
        from ctsynth.training.configure import configure

        place = shared.find_place(device, gpus, ranks)
        store = Store.open(data)
        optimization = {
            "iterations": iterations, "batch_size": batch_size, "lr": lr, "ema": ema, "seed": seed,
            "save_every": save_every, "keep_every": keep_every, "sample_every": sample_every,
            "tensorboard": tensorboard, "precision": precision,
        }  # fmt: skip
        config = configure(
            store,
            NETWORK,
            preset=preset or "auto",
            options=shared.parse(set_),
            training=shared.given(optimization),
            device=place.device,
        )
        shared.fit(store, out, config, place, stop, resume=resume, overwrite=overwrite)
