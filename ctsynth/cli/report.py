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
            help="Scores (scores.json, or a folder that holds one), training runs, or both.",
            metavar="RUN|SCORES...",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page, the tables and the figures.")] = Path("report"),
) -> None:
    """Show scores, pictures and loss curves on one page.

    Writes OUT/index.html, which needs neither network nor any other file,
    beside it the tables as scores.csv, .md and .tex and the figures as PNG, and
    prints where the page is:

        ctsynth report samples/scores.json --out report

        ctsynth report runs/mask samples-mask samples-concat
    """
    from ctsynth.report.page import build_report

    console.echo(str(build_report(inputs, out)))
