"""``ctsynth report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctsynth.cli import console


def command(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Scores (scores.json, or a folder with some, such as one a checkpoint), training runs, or both.",
            metavar="RUN|SCORES...",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page, the tables and the figures.")] = Path("report"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a report on other inputs, or one changed by hand.")
    ] = False,
) -> None:
    """Show scores beside the paper's, pictures and loss curves on one page.

    Writes OUT/index.html, which needs neither network nor any other file, and
    beside it scores, table-1 and table-2 as .csv, .md and .tex and the figures as
    PNG; prints where the page is. Files there that are not an earlier report's
    are never written over:

        ctsynth report samples/scores.json --out report

        ctsynth report runs/mask samples-mask samples-concat

    Table 1 is by iterations (score several checkpoints of a run for it), Table 2
    has each method at its last checkpoint; both have all of the paper's numbers.
    """
    from ctsynth.reporting.page import build_report

    console.echo(str(build_report(inputs, out, overwrite=overwrite)))
