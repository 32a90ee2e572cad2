"""``ctsynth export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctsynth.cli import console


def command(
    model: Annotated[
        Path, typer.Argument(metavar="RUN", help="Training run or checkpoint to share.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.", show_default=False)],
    scores: Annotated[
        list[Path] | None,
        typer.Option(help="scores.json of volumes that it drew; may be repeated.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export of another checkpoint or with other scores.")
    ] = False,
) -> None:
    """Make a folder of a trained model for others: weights, settings, model card.

    DIR holds model.safetensors (the averaged weights), config.json and README.md,
    a model card in the form of the Hugging Face Hub with data, split, training
    and scores. License and intended use are for you to add, in the lines marked
    FILL IN. DIR holds no path of this machine and no pickle, and nothing is sent
    anywhere:

        ctsynth export runs/ddpm-mask model --scores synthetic/scores.json
        ctsynth sample --mask seg.nii.gz --model model

    Run again, it keeps a card that you filled in. Prints the folder.
    """
    from ctsynth.sharing.card import FILL_IN
    from ctsynth.sharing.export import CARD, export

    made = export(model, out, scores=scores or (), overwrite=overwrite)
    if (left := (made / CARD).read_text(encoding="utf-8").count(FILL_IN)) > 0:
        console.log.info("%s: %d lines to fill in, marked %s", made / CARD, left, FILL_IN)
    console.echo(str(made))
