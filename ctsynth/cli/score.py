"""``ctsynth score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ctsynth.cli import _sweep, console
from ctsynth.cli._scoring import Work
from ctsynth.cli._settings import settings_options
from ctsynth.errors import UsageError
from ctsynth.plugins import names
from ctsynth.segmentation.settings import Segmenting

WHAT, RESULT, RUN = "What to compare", "Result", "Run"


Synthetic = Annotated[
    Path,
    typer.Argument(
        metavar="SYNTHETIC",
        help="Folder of synthetic volumes in HU, SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz; or one of them;"
        " with --checkpoint or --sweep a training run.",
        show_default=False,
    ),
]
Data = Annotated[Path, typer.Option(help="Slice store with the real volumes.", rich_help_panel=WHAT)]
Split = Annotated[Literal["train", "test"], typer.Option(help="Subjects to compare with.", rich_help_panel=WHAT)]
Metrics = Annotated[
    str | None,
    typer.Option(
        help=f"Comma-separated: {', '.join(names('ctsynth.metrics'))}.",
        show_default="all that are available",
        rich_help_panel=WHAT,
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="all|STEP,...",
        help="Draw and score the volumes of a run's checkpoints, one after the other: the rows of Table 1.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Sweep = Annotated[
    str | None,
    typer.Option(
        metavar="sampler=all|NAME,...",
        help="Draw and score the volumes of a run's newest checkpoint, or the one named, with several samplers.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Steps = Annotated[
    str | None,
    typer.Option(
        metavar="N,...",
        help="With --sweep, the steps of each sampler.",
        show_default="; ".join(f"{name} {','.join(map(str, steps))}" for name, steps in _sweep.STEPS.items()),
        rich_help_panel=WHAT,
    ),
]
Preset = Annotated[
    Literal["fast", "paper"],
    typer.Option(help="With --checkpoint, how to draw, as `ctsynth sample` does.", rich_help_panel=WHAT),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial", help="Score the volumes that exist if some subjects have none.", rich_help_panel=WHAT
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Where to write the scores; with --checkpoint or --sweep, the folder for volumes and scores.",
        show_default="SYNTHETIC/scores.json; RUN/scored; RUN/sweep",
        rich_help_panel=RESULT,
    ),
]
Form = Annotated[
    Literal["table", "csv", "markdown", "latex"],
    typer.Option("--format", help="How to print them.", rich_help_panel=RESULT),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the content of scores.json instead.", rich_help_panel=RESULT)
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Measure only share I of N; slurm takes I and N from the job array. Then score without it.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes for metrics that need no network, up to 1 GB each.",
        show_default="one per 8 subjects, at most the cores and 8",
        rich_help_panel=RUN,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Measure again; with --checkpoint or --sweep, draw again.", rich_help_panel=RUN
    ),
]


@settings_options(
    {WHAT: ["segmenter", "native", "device"], RESULT: [], RUN: []},
    segmenting=Segmenting,
)
def command(
    synthetic: Synthetic,
    data: Data = Path("out"),
    split: Split = "test",
    metrics: Metrics = None,
    checkpoint: Checkpoint = None,
    sweep: Sweep = None,
    steps: Steps = None,
    preset: Preset = "fast",
    partial: Partial = False,
    out: Out = None,
    form: Form = "table",
    json: Json = False,
    shard: Shard = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    *,
    segmenting: Segmenting,
) -> None:
    """Measure how close synthetic volumes are to the real ones.

    Pairs volumes with subjects by name (the JSON that `ctsynth sample` leaves
    beside them must agree), computes FID and KID, PSNR (dB) and SSIM, the Dice
    of TotalSegmentator's organs, gradient ratio and the organs' HU, writes
    scores.json and prints the table:

        ctsynth sample --data out --split test --model runs/mask --out samples
        ctsynth score samples --data out
        ctsynth score samples --metrics psnr,ssim --out two.json --format latex
        ctsynth score samples --metrics dice --segmenter masks/ --out dice.json
        ctsynth score samples --segmenter runs/segmenter
        ctsynth score runs/mask --checkpoint all --data out
        ctsynth score runs/mask --sweep sampler=dpm++,ddim --steps 5,10,20,50

    A volume may lie on its source's own grid, in any orientation, or be the
    re-stacked slices. A metric that cannot be computed here is left out, with
    the reason. Intervals are 95 % bootstrap intervals over subjects.

    What is measured of a subject is kept in SYNTHETIC/measured: the same
    command continues where it stopped, and jobs may share the work. Each
    measures its share, and the same command without --shard puts the shares
    together:

        ctsynth score samples --shard 2/8
    """
    from ctsynth.data.store import Store
    from ctsynth.scoring.volumes import scores_beside

    _refuse_contradictions(checkpoint, sweep, steps, preset)
    names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics is not None else None
    work = Work(Store.open(data), split, {
        "metrics": names, "partial": partial, "segmenting": segmenting, "shard": shard, "overwrite": overwrite,
    }, workers)  # fmt: skip
    if sweep is not None:
        _sweep.run(work, synthetic, sweep, steps, out, segmenting.device)
    elif checkpoint is not None:
        work.score_checkpoints(synthetic, checkpoint, out, preset, segmenting.device)
    else:
        work.score(synthetic, out or scores_beside(synthetic))
    console.echo(work.shown(form, as_json=json, one=checkpoint is None and sweep is None))


def _refuse_contradictions(checkpoint: str | None, sweep: str | None, steps: str | None, preset: str) -> None:
    if sweep is not None and (checkpoint is not None or preset != "fast"):
        raise UsageError(
            "--sweep goes with neither --checkpoint nor --preset",
            hint="name the checkpoint itself: ctsynth score RUN/checkpoints/step_000150000 --sweep sampler=all",
        )
    if steps is not None and sweep is None:
        raise UsageError("--steps goes with --sweep: the volumes of a folder exist already", hint=_sweep.HINT)
