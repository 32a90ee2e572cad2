"""``ctsynth score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ctsynth.cli import console

WHAT, RESULT = "What to compare", "Result"


def command(
    synthetic: Annotated[
        Path,
        typer.Argument(
            help="Folder of synthetic volumes in HU, SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz; or one of them.",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Option(help="Slice store with the real volumes.", rich_help_panel=WHAT)] = Path(
        "out"
    ),
    split: Annotated[
        Literal["train", "test"], typer.Option(help="Subjects to compare with.", rich_help_panel=WHAT)
    ] = "test",
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: psnr, ssim, gradient, hu, or files of your own.",
            show_default="all that can be had",
            rich_help_panel=WHAT,
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Score what is there if some subjects have no volume.", rich_help_panel=WHAT
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the scores.", show_default="SYNTHETIC/scores.json", rich_help_panel=RESULT
        ),
    ] = None,
    form: Annotated[
        Literal["table", "csv", "markdown", "latex"],
        typer.Option("--format", help="How to print them.", rich_help_panel=RESULT),
    ] = "table",
    json: Annotated[
        bool, typer.Option("--json", help="Print the content of scores.json instead.", rich_help_panel=RESULT)
    ] = False,
) -> None:
    """Measure how close synthetic volumes are to the real ones.

    Pairs volumes with subjects by name, computes PSNR (dB), SSIM, gradient
    ratio and the organs' HU, of the whole slice and inside the body, writes
    scores.json and prints the table:

        ctsynth sample --data out --split test --model runs/mask --out samples

        ctsynth score samples --data out

        ctsynth score samples --metrics psnr,ssim --format latex > table.tex

    A volume may lie on its source's own grid, in any orientation, or be the
    re-stacked slices. A metric that cannot be computed here is left out, with
    the reason. Intervals are 95 % bootstrap intervals over subjects.
    """
    from json import dumps

    from ctsynth.data.store import Store
    from ctsynth.report.tables import render
    from ctsynth.scoring import base_name, score
    from ctsynth.stop import stoppable

    store = Store.open(data)
    names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics is not None else None
    total = 1 if synthetic.is_file() else len(store.subjects(split))
    with stoppable(), console.progress("scoring", total) as progress:
        scores = score(synthetic, store, split, metrics=names, partial=partial, progress=progress)
    folder = synthetic.parent if synthetic.is_file() else synthetic
    default = f"{base_name(synthetic)}_scores.json" if synthetic.is_file() else "scores.json"
    target = out or folder / default
    scores.save(target)
    console.echo(dumps(scores.as_json(), indent=2) if json else render({scores.name: scores}, form))
    for name, result in scores.metrics.items():
        for note in result.notes:
            console.log.info("%s: %s", name, note)
    console.log.info("written: %s", target)
