"""``ctsynth score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctsynth.cli import console
from ctsynth.errors import UsageError
from ctsynth.plugins import names

if TYPE_CHECKING:
    from ctsynth.data.store import Store
    from ctsynth.scoring.scores import Scores
    from ctsynth.stop import Stop

WHAT, RESULT, RUN = "What to compare", "Result", "Run"


def command(
    synthetic: Annotated[
        Path,
        typer.Argument(
            help="Folder of synthetic volumes in HU, SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz; or one of them;"
            " with --checkpoint a training run.",
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
            help=f"Comma-separated: {', '.join(names('ctsynth.metrics'))}.",
            show_default="all that can be had",
            rich_help_panel=WHAT,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="all|STEP,...",
            help="Draw and score the volumes of a run's checkpoints, one after the other: the rows of Table 1.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    preset: Annotated[
        Literal["fast", "paper"],
        typer.Option(help="With --checkpoint, how to draw, as `ctsynth sample` does.", rich_help_panel=WHAT),
    ] = "fast",
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Score what is there if some subjects have no volume.", rich_help_panel=WHAT
        ),
    ] = False,
    segmenter: Annotated[
        str | None,
        typer.Option(
            help="For dice: totalsegmentator, totalsegmentator-fast, a run of `ctsynth train-segmenter`, or a"
            " folder of masks SUBJECT.nii.gz.",
            show_default="totalsegmentator, if it can be had",
            rich_help_panel=WHAT,
        ),
    ] = None,
    native: Annotated[
        bool,
        typer.Option(
            "--native", help="Dice on the source CT's grid, not the stacked slices'.", rich_help_panel=WHAT
        ),
    ] = False,
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"],
        typer.Option(
            help="Where to draw, and where the segmenter runs, which takes a CPU only if asked.",
            rich_help_panel=WHAT,
        ),
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the scores; with --checkpoint, the folder for volumes and scores.",
            show_default="SYNTHETIC/scores.json; RUN/scored",
            rich_help_panel=RESULT,
        ),
    ] = None,
    form: Annotated[
        Literal["table", "csv", "markdown", "latex"],
        typer.Option("--format", help="How to print them.", rich_help_panel=RESULT),
    ] = "table",
    json: Annotated[
        bool, typer.Option("--json", help="Print the content of scores.json instead.", rich_help_panel=RESULT)
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Measure the I-th of N shares only, or slurm: as the array says. Then score without it.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that measure what takes no network, up to 1 GB each.",
            show_default="one for 8 subjects, at most the cores and 8",
            rich_help_panel=RUN,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Measure again; with --checkpoint, draw again.", rich_help_panel=RUN),
    ] = False,
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
    from json import dumps

    from ctsynth.data.store import Store
    from ctsynth.metrics.base import Segmenting
    from ctsynth.outputs import refuse_foreign
    from ctsynth.reporting.tables import count, labelled, remarks, render
    from ctsynth.scoring.run import scoring
    from ctsynth.scoring.scores import is_scores
    from ctsynth.stop import Stop

    store = Store.open(data)
    wanted = [name.strip() for name in metrics.split(",") if name.strip()] if metrics is not None else None
    found: dict[str, Scores] = {}
    shares: dict[str, dict[str, int]] = {}

    def one(volumes: Path, target: Path, name: str | None = None) -> None:
        refuse_foreign(target, is_scores, "a file of scores")  # before the work is done
        work = scoring(
            volumes,
            store,
            split,
            metrics=wanted,
            partial=partial,
            segmenting=Segmenting(segmenter, device, native),
            shard=shard,
            overwrite=overwrite,
        )
        with work as now, console.progress("scoring", len(now.subjects)) as progress:
            made = now.measure(progress, workers)
            scores = now.scores() if shard is None else None
        if scores is None:
            shares[name or str(volumes)] = {"measured": made, "kept": len(now.subjects) - made}
            return
        scores.save(target, overwrite=overwrite)
        found[labelled(name or scores.name, phantom=scores.phantom)] = scores
        for column, result in scores.metrics.items():
            for note in result.notes:
                console.log.info("%s: %s", column, note)
        for words in remarks(scores):
            console.log.info("%s", words)
        console.log.info("written: %s", target)

    if checkpoint is None:
        one(synthetic, out or _target(synthetic))
    else:
        for step in _steps(synthetic, checkpoint):
            folder = (out or synthetic / "scored") / step.name
            with Stop() as stop:
                _draw(step, store, split, folder, preset, device, shard, stop, overwrite)
            one(folder, folder / "scores.json", f"step {int(step.name.removeprefix('step_')):,}")
    if shard is not None:
        told = (
            f"{name}: {count(n['measured'], 'subjects')} measured, {n['kept']} kept" for name, n in shares.items()
        )
        console.echo(dumps(shares) if json else "\n".join(told))
        return
    if json:
        several = {name: scores.as_json() for name, scores in found.items()}
        console.echo(dumps(several if checkpoint else next(iter(several.values())), indent=2))
    else:
        console.echo(render(found, form, console.width()))


def _target(synthetic: Path) -> Path:
    from ctsynth.scoring.volumes import base_name

    if synthetic.is_file():
        return synthetic.parent / f"{base_name(synthetic)}_scores.json"
    return synthetic / "scores.json"


def _steps(run: Path, wanted: str) -> list[Path]:
    """A run's checkpoints of these steps.

    Raises:
        UsageError: It has none, or not these.
    """
    from ctsynth.training.checkpoint import saved, step_of

    there = {str(step_of(path)): path for path in saved(run)}
    asked = list(there) if wanted == "all" else [step.strip() for step in wanted.split(",")]
    if missing := [step for step in asked if step not in there]:
        raise UsageError(
            f"{run}: no checkpoint of step {missing[0]}", hint=f"there are: {', '.join(there) or 'none'}"
        )
    if not asked:
        raise UsageError(
            f"{run}: no checkpoints", hint="--checkpoint wants a training run, such as runs/ddpm-mask"
        )
    return [there[step] for step in asked]


def _draw(
    path: Path,
    store: Store,
    split: str,
    folder: Path,
    preset: str,
    device: str,
    shard: str | None,
    stop: Stop,
    overwrite: bool,
) -> None:
    from ctsynth.cli.sample import pick_sampler
    from ctsynth.device import find_device, find_precision
    from ctsynth.files import sole
    from ctsynth.sampling import volumes
    from ctsynth.sampling.batches import SamplingConfig
    from ctsynth.sampling.cases import cases_of_store
    from ctsynth.shards import lock_name, take
    from ctsynth.training import checkpoint

    where = find_device(device)
    trained = checkpoint.load(path, where)
    sampling = SamplingConfig(
        sampler=pick_sampler(trained.method, preset),
        batch_size=4 if where.type == "cpu" else 16,
        device=where,
        precision=find_precision("auto", where),
    )
    shard = shard or "1/1"
    cases = take(cases_of_store(store, split, trained, folder), shard)
    with (
        sole(folder / lock_name("sample", shard)),
        console.progress(f"sample {path.name}", len(cases)) as progress,
    ):
        for _ in volumes.sample(trained, cases, sampling, stop=stop, overwrite=overwrite, progress=progress):
            pass
