"""``ctsynth score``."""

from __future__ import annotations

from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ctsynth.cli import console
from ctsynth.cli._checkpoints import checkpoints_of, draw_checkpoint
from ctsynth.plugins import names

if TYPE_CHECKING:
    from ctsynth.data.store import Store
    from ctsynth.scoring.scores import Scores

WHAT, RESULT, RUN = "What to compare", "Result", "Run"


Synthetic = Annotated[
    Path,
    typer.Argument(
        help="Folder of synthetic volumes in HU, SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz; or one of them;"
        " with --checkpoint a training run.",
        show_default=False,
    ),
]
Data = Annotated[Path, typer.Option(help="Slice store with the real volumes.", rich_help_panel=WHAT)]
Split = Annotated[Literal["train", "test"], typer.Option(help="Subjects to compare with.", rich_help_panel=WHAT)]
Metrics = Annotated[
    str | None,
    typer.Option(
        help=f"Comma-separated: {', '.join(names('ctsynth.metrics'))}.",
        show_default="all that can be had",
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
Preset = Annotated[
    Literal["fast", "paper"],
    typer.Option(help="With --checkpoint, how to draw, as `ctsynth sample` does.", rich_help_panel=WHAT),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="Score what is there if some subjects have no volume.", rich_help_panel=WHAT),
]
Segmenter = Annotated[
    str | None,
    typer.Option(
        help="For dice: totalsegmentator, totalsegmentator-fast, a run of `ctsynth train-segmenter`, or a"
        " folder of masks SUBJECT.nii.gz.",
        show_default="totalsegmentator, if it can be had",
        rich_help_panel=WHAT,
    ),
]
Native = Annotated[
    bool,
    typer.Option("--native", help="Dice on the source CT's grid, not the stacked slices'.", rich_help_panel=WHAT),
]
Device = Annotated[
    Literal["auto", "cuda", "mps", "cpu"],
    typer.Option(
        help="Where to draw, and where the segmenter runs, which takes a CPU only if asked.",
        rich_help_panel=WHAT,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Where to write the scores; with --checkpoint, the folder for volumes and scores.",
        show_default="SYNTHETIC/scores.json; RUN/scored",
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
        help="Measure the I-th of N shares only, or slurm: as the array says. Then score without it.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that measure what takes no network, up to 1 GB each.",
        show_default="one for 8 subjects, at most the cores and 8",
        rich_help_panel=RUN,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Measure again; with --checkpoint, draw again.", rich_help_panel=RUN),
]


def command(
    synthetic: Synthetic,
    data: Data = Path("out"),
    split: Split = "test",
    metrics: Metrics = None,
    checkpoint: Checkpoint = None,
    preset: Preset = "fast",
    partial: Partial = False,
    segmenter: Segmenter = None,
    native: Native = False,
    device: Device = "auto",
    out: Out = None,
    form: Form = "table",
    json: Json = False,
    shard: Shard = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
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

    A volume may lie on its source's own grid, in any orientation, or be the
    re-stacked slices. A metric that cannot be computed here is left out, with
    the reason. Intervals are 95 % bootstrap intervals over subjects.

    What is measured of a subject is kept in SYNTHETIC/measured: the same
    command goes on where it was stopped, and jobs may share the work. Each
    measures its share, and the same command without --shard puts the shares
    together:

        ctsynth score samples --shard 2/8
    """
    from ctsynth.data.store import Store
    from ctsynth.metrics.base import Segmenting
    from ctsynth.scoring.volumes import scores_beside

    names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics is not None else None
    how = {"metrics": names, "partial": partial, "segmenting": Segmenting(segmenter, device, native)}
    work = _Work(Store.open(data), split, {**how, "shard": shard, "overwrite": overwrite}, workers)
    if checkpoint is None:
        work.score(synthetic, out or scores_beside(synthetic))
    else:
        for step in checkpoints_of(synthetic, checkpoint):
            folder = (out or synthetic / "scored") / step.name
            work.draw(step, folder, preset, device)
            work.score(folder, folder / "scores.json", f"step {int(step.name.removeprefix('step_')):,}")
    console.echo(work.shown(form, as_json=json, one=checkpoint is None))


@dataclass
class _Work:
    """What is scored, how, and what was found.

    Args:
        store: The real slices.
        split: Whose subjects are scored.
        how: All other arguments of ``scoring``.
        workers: As for ``Scoring.measure``.
        found: The scores, by the name of what was scored.
        shares: With --shard, how many subjects were measured and kept.
    """

    store: Store
    split: str
    how: dict[str, Any]
    workers: int | None
    found: dict[str, Scores] = field(default_factory=dict)
    shares: dict[str, dict[str, int]] = field(default_factory=dict)

    def score(self, volumes: Path, target: Path, name: str | None = None) -> None:
        """Measures the volumes and, unless this is a shard, writes their scores."""
        from ctsynth.outputs import refuse_foreign
        from ctsynth.reporting.tables import labelled, remarks
        from ctsynth.scoring.run import scoring
        from ctsynth.scoring.scores import is_scores

        refuse_foreign(target, is_scores, "a file of scores")  # before the work is done
        work = scoring(volumes, self.store, self.split, **self.how)
        with work as now, console.progress("scoring", len(now.subjects)) as progress:
            made = now.measure(progress, self.workers)
            scores = now.scores() if self.how["shard"] is None else None
        if scores is None:
            self.shares[name or str(volumes)] = {"measured": made, "kept": len(now.subjects) - made}
            return
        scores.save(target, overwrite=self.how["overwrite"])
        self.found[labelled(name or scores.name, phantom=scores.phantom)] = scores
        for column, result in scores.metrics.items():
            for note in result.notes:
                console.log.info("%s: %s", column, note)
        for words in remarks(scores):
            console.log.info("%s", words)
        console.log.info("written: %s", target)

    def draw(self, step: Path, folder: Path, preset: str, device: str) -> None:
        """Draws the volumes of a checkpoint."""
        from ctsynth.stop import Stop

        with Stop() as stop:
            shard, overwrite = self.how["shard"], self.how["overwrite"]
            draw_checkpoint(step, self.store, self.split, folder, preset, device, shard, stop, overwrite)

    def shown(self, form: Literal["table", "csv", "markdown", "latex"], *, as_json: bool, one: bool) -> str:
        """What is printed of it."""
        from ctsynth.reporting.tables import count, render

        if self.how["shard"] is not None:
            lines = (
                f"{name}: {count(n['measured'], 'subjects')} measured, {n['kept']} kept"
                for name, n in self.shares.items()
            )
            return dumps(self.shares) if as_json else "\n".join(lines)
        if as_json:
            contents = {name: scores.as_json() for name, scores in self.found.items()}
            return dumps(next(iter(contents.values())) if one else contents, indent=2)
        return render(self.found, form, console.width())
