"""``ctsynth phantom``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from ctsynth.cli import console
from ctsynth.cli._options import check_seed
from ctsynth.errors import UsageError

log = logging.getLogger(__name__)


Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the data set.", show_default=False)]
Subjects = Annotated[int, typer.Option(help="Training subjects, 1 to 400.", rich_help_panel="Data")]
TestSubjects = Annotated[int, typer.Option(help="Test subjects, 0 to 99.", rich_help_panel="Data")]
Size = Annotated[int, typer.Option(help="Side of a slice in voxels; it is 384 mm.", rich_help_panel="Data")]
Slices = Annotated[
    str,
    typer.Option(
        metavar="N,...",
        help="Slices per subject, over 360 mm; several numbers are used for the subjects in turn.",
        rich_help_panel="Data",
    ),
]
Seed = Annotated[int, typer.Option(callback=check_seed, help="Same seed, same files.", rich_help_panel="Data")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.", rich_help_panel="Running")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Make all subjects again.", rich_help_panel="Running")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel="Running")]


def command(
    out: Out,
    subjects: Subjects = 12,
    test_subjects: TestSubjects = 2,
    size: Size = 256,
    slices: Slices = "72",
    seed: Seed = 0,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a synthetic abdomen data set in AMOS22's layout.

    For demos, tests and benchmarks. Phantoms are drawings with the anatomy, HU
    (portal-venous) and noise of a CT, [bold]never a patient[/]. Do not report results
    on them as results on CT.

    OUT gets dataset.json, imagesTr, labelsTr, imagesVa and labelsVa, as in
    AMOS22; subjects differ in size, habitus and organs. dataset.json marks them
    as phantoms, and so are the store, scores and page made from them. Finished,
    up-to-date subjects are kept, so the same command continues where it stopped:

        ctsynth phantom amos/
        ctsynth phantom amos/ --subjects 40 --test-subjects 10 --workers 8
        ctsynth phantom spacings/ --slices 24,72,120
        ctsynth phantom small/ --size 96 --slices 24
    """
    from ctsynth.phantom import make_phantom

    in_turn = _numbers(slices)
    log.info("phantoms are for demos, tests and benchmarks; they are never a patient")
    with console.progress("phantom", subjects + test_subjects) as progress:
        made = make_phantom(
            out,
            subjects=subjects,
            test_subjects=test_subjects,
            size=size,
            slices=in_turn,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        counts = {"training": len(made.training), "validation": len(made.validation), "skipped": made.skipped}
        console.echo(json.dumps({"out": str(out), **counts, "synthetic": True}))
    else:
        kept = f" ({made.skipped} were there already)" if made.skipped else ""
        console.echo(f"{out}: {len(made.training)} training and {len(made.validation)} test phantoms{kept}")


def _numbers(slices: str) -> list[int]:
    """One or several numbers of slices.

    Raises:
        UsageError: It is none.
    """
    try:
        return [int(number) for number in slices.split(",")]
    except ValueError:
        raise UsageError(f"--slices is {slices!r}, wanted whole numbers such as 72 or 24,72") from None
