"""``ctsynth report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctsynth.cli import console
from ctsynth.errors import UsageError

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Training runs, and scores: a scores.json, or a folder that contains some.",
        metavar="RUN|SCORES",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the page, the tables and the figures.")]
Blind = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=2,
        max=1000,
        help="Also write a blind reading of N real and synthetic slices: blind.html for the reader,"
        " blind-answers.json for you.",
        show_default=False,
    ),
]
Marks = Annotated[
    Path | None,
    typer.Option(
        help="File that a reader saved from OUT/blind.html: print the share of correct marks.",
        metavar="FILE",
        show_default=False,
    ),
]
Viewer = Annotated[
    bool,
    typer.Option(
        "--viewer",
        help="Also write viewer.html: three planes of a synthetic volume beside its mask and the real CT.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a report on other inputs, or one changed by hand.")
]


def command(
    inputs: Inputs = None,
    out: Out = Path("report"),
    blind: Blind = None,
    marks: Marks = None,
    viewer: Viewer = False,
    overwrite: Overwrite = False,
) -> None:
    """Show scores beside the paper's, pictures and loss curves on one page.

    Writes OUT/index.html, which needs neither network nor any other file, and
    beside it scores, table-1 and table-2 as .csv, .md and .tex and the figures as
    PNG; prints where the page is. Files there that are not an earlier report's
    are never overwritten:

        ctsynth report samples/scores.json --out report
        ctsynth report runs/mask samples-mask samples-concat

    Table 1 is by iterations (score several checkpoints of a run for it), Table 2
    has each method at its last checkpoint; both have all of the paper's numbers.

    The viewer shows the first volume of the first system in HU within the window;
    it works offline in any browser:

        ctsynth report samples --out report --viewer

    A blind reading asks people which slices are real. Give them blind.html
    alone, which works offline; they mark the slices and send a file back:

        ctsynth report samples --out report --blind 40
        ctsynth report --out report --marks blind-marks.json
    """
    if marks is not None:
        from ctsynth.reporting.blind import ANSWERS, read_marks

        if inputs or blind or viewer:
            raise UsageError("--marks reads a file of marks, and makes no report", hint="leave out all but --out")
        console.echo("\n".join(read_marks(marks, out / ANSWERS).lines()))
        return
    from ctsynth.reporting.page import build_report

    console.echo(str(build_report(inputs or [], out, overwrite=overwrite, blind=blind or 0, viewer=viewer)))
