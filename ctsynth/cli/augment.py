"""``ctsynth augment``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from ctsynth.cli import console
from ctsynth.cli._options import check_seed
from ctsynth.errors import UsageError
from ctsynth.stop import Stop

if TYPE_CHECKING:
    from ctsynth.augment.forecast import Hours
    from ctsynth.augment.plan import StudyConfig
    from ctsynth.augment.study import Study

WHAT, SIZE, NETS, RUN = "Study", "Size", "Networks", "Machine"

ANSWER = "augment.json"

Number = TypeVar("Number", int, float)


Data = Annotated[Path, typer.Argument(metavar="DATA", help="Slice store of `ctsynth preprocess`.")]
Out = Annotated[Path, typer.Option(help="The study's folder.", rich_help_panel=WHAT)]
Arms = Annotated[
    str | None,
    typer.Option(
        metavar="R,R+D,...",
        help="Comma-separated: R, R+C, R+Dr, R+S, R+D, S, D, R+R; controls: R+real, R+mean, R+shuffled.",
        show_default="all but the controls",
        rich_help_panel=WHAT,
    ),
]
Generator = Annotated[
    Literal["own", "all"],
    typer.Option(help="Trained on each fraction alone, or one on all training subjects.", rich_help_panel=WHAT),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan with its hours, and stop.", rich_help_panel=WHAT)
]
Export = Annotated[
    tuple[str, Path] | None,
    typer.Option(
        metavar="nnunet DIR",
        help="Write an nnU-Net raw dataset for each arm, fraction and draw; train no segmenters.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Fractions = Annotated[
    str | None,
    typer.Option(
        metavar="F,...",
        help="Fractions of the training subjects, as numbers up to 1.",
        show_default="0.05,0.1,0.25,0.5,1",
        rich_help_panel=SIZE,
    ),
]
Draws = Annotated[
    int, typer.Option(min=1, help="Random choices of subjects for each fraction below 1.", rich_help_panel=SIZE)
]
Seeds = Annotated[
    int, typer.Option(min=1, help="Segmenters for each arm, fraction and draw.", rich_help_panel=SIZE)
]
Doses = Annotated[
    str,
    typer.Option(
        metavar="N,...",
        help="Deformed or synthetic subjects per real one; only R+Dr, R+S and R+D are run at more than the first.",
        rich_help_panel=SIZE,
    ),
]
Iterations = Annotated[
    int | None,
    typer.Option(
        min=1, help="Training steps of each segmenter.", show_default="the preset's", rich_help_panel=SIZE
    ),
]
GeneratorIterations = Annotated[
    int | None,
    typer.Option(
        min=1, help="Training steps of each generator.", show_default="the preset's", rich_help_panel=SIZE
    ),
]
Method = Annotated[str, typer.Option(help="Method of the generator: any in `ctsynth info`.", rich_help_panel=NETS)]
Preset = Annotated[
    Literal["paper", "small", "tiny"] | None,
    typer.Option(
        help="Preset of generator and segmenter.", show_default="paper on a GPU, else small", rich_help_panel=NETS
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, max=1000, help="Denoising steps per slice.", show_default="the method's", rich_help_panel=NETS
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        callback=check_seed, help="Same seed, same subjects, deformations and weights.", rich_help_panel=NETS
    ),
]
Device = Annotated[
    Literal["auto", "cuda", "mps", "cpu"],
    typer.Option(help="Where to train and draw.", rich_help_panel=RUN),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Carry out only share I of N; slurm takes I and N from the job array.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the plan or the results as JSON.", rich_help_panel=RUN)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make everything again.", rich_help_panel=RUN)]


def command(
    data: Data = Path("out"),
    out: Out = Path("augment"),
    arms: Arms = None,
    generator: Generator = "own",
    dry_run: DryRun = False,
    export: Export = None,
    fractions: Fractions = None,
    draws: Draws = 3,
    seeds: Seeds = 3,
    doses: Doses = "1,2,4",
    iterations: Iterations = None,
    generator_iterations: GeneratorIterations = None,
    method: Method = "ddpm-mask",
    preset: Preset = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    shard: Shard = None,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure whether synthetic CT helps a segmenter.

    Trains segmenters on real subjects, and on real and synthetic ones, all with
    the same steps; measures Dice and surface distance on the store's test
    subjects; and prints the gain of each arm with its interval. Print the plan
    first, and reduce it:

        ctsynth augment out --dry-run
        ctsynth augment out --arms R,R+C,R+Dr,R+D --fractions 0.1,1 --doses 1

    The arms: R real; R+C real with CutMix; R+Dr real images deformed with their
    labels; R+S synthetic images of the same masks; R+D synthetic images of
    deformed masks; S and D synthetic alone; R+R further real subjects. R+D
    against R+Dr shows what the synthetic texture adds.

    Writes OUT/augment.json and a page, OUT/report/index.html. Run again, the
    command makes what is missing. With --shard no results are written: run the
    command once more without it at the end.
    """
    config = _config(
        arms, fractions, doses, draws=draws, seeds=seeds, generator=generator, method=method,
        preset=preset or "auto", iterations=iterations, generator_iterations=generator_iterations, steps=steps,
        seed=seed,
    )  # fmt: skip
    if export and (export[0] != "nnunet" or shard):
        problem = "it is not shared out: leave --shard out" if export[0] == "nnunet" else "wanted nnunet DIR"
        raise UsageError(f"--export {export[0]}: {problem}", hint="--export nnunet nnunet/")
    with Stop() as stop:
        study = _study(data, config, out, device, stop, overwrite=overwrite)
        if dry_run:
            _print_plan(study, as_json=as_json)
            return
        if export:
            _export(study, export[1])
            return
        _carry_out(study, shard)
        if shard is None:
            _print_results(study, as_json=as_json)


def _config(arms: str | None, fractions: str | None, doses: str, **settings: object) -> StudyConfig:
    from ctsynth.augment.arms import PROTOCOL, arms_of
    from ctsynth.augment.plan import StudyConfig

    return StudyConfig(
        arms=arms_of(arms) if arms else PROTOCOL,
        fractions=tuple(_numbers("--fractions", fractions, float)) if fractions else None,
        doses=tuple(_numbers("--doses", doses, int)),
        **settings,  # type: ignore[arg-type]
    )


def _numbers(option: str, text: str, kind: type[Number]) -> list[Number]:
    """Numbers separated by commas.

    Raises:
        UsageError: One is none.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} {text}: wanted {what}, separated by commas") from None


def _study(data: Path, config: StudyConfig, out: Path, device: str, stop: Stop, *, overwrite: bool) -> Study:
    from ctsynth.augment.plan import make_plan
    from ctsynth.data.store import Store

    store = Store.open(data)
    plan = make_plan(store, config)
    from ctsynth.augment.study import Study  # imports torch: only where there is a plan
    from ctsynth.device import find_device

    return Study(store, plan, out, find_device(device), stop, overwrite=overwrite)


def _print_plan(study: Study, *, as_json: bool) -> None:
    """The plan with its hours, on stdout."""
    from json import dumps

    from ctsynth.augment import forecast

    hours = _estimated(study)
    if as_json:
        console.echo(dumps(forecast.as_json(study.store, study.plan, hours), indent=2))
        return
    for name, words in forecast.described(study.store, study.plan, study.device, hours).items():
        console.echo(f"{name:<12}{words}")


def _carry_out(study: Study, shard: str | None) -> None:
    """Says what is planned on stderr, and makes what is missing."""
    from ctsynth.augment.carry_out import carry_out
    from ctsynth.augment.forecast import described
    from ctsynth.shards import take

    runs = [run for cell in take(study.plan.cells, shard or "1/1") for run in study.plan.of_cell(cell)]
    missing = len(study.missing())
    hours = _estimated(study) if missing else None
    for name, words in described(study.store, study.plan, study.device, hours).items():
        console.log.info("%-12s%s", name, words)
    console.log.info("%d of %d segmenters are done", len(study.plan.runs) - missing, len(study.plan.runs))
    study.begin()
    with console.progress("augment", len(runs)) as progress:
        carry_out(study, shard or "1/1", progress)


def _export(study: Study, out: Path) -> None:
    """Writes the arms as data sets for nnU-Net and prints their folders."""
    from ctsynth.augment.export import export_nnunet
    from ctsynth.outputs import refuse_inputs
    from ctsynth.stop import Stopped

    refuse_inputs([out], [study.store.root, study.out])
    study.begin()
    try:
        for path in export_nnunet(study, out):
            console.echo(str(path))
    except Stopped:
        raise study.stop.interrupted(
            "stopped by SIGNAL", "run the same command again: finished work is kept"
        ) from None


def _estimated(study: Study) -> Hours:
    from ctsynth.augment.forecast import estimate
    from ctsynth.stop import Stopped

    try:
        with study.stop.interruptible():
            return estimate(study.store, study.plan, study.device)
    except Stopped:
        raise study.stop.interrupted("stopped by SIGNAL", "nothing was written: start it again") from None


def _print_results(study: Study, *, as_json: bool) -> None:
    """Writes augment.json and the page, and prints the tables."""
    from json import dumps

    from ctsynth.augment.page import write_page
    from ctsynth.augment.tables import answer
    from ctsynth.files import write_json

    results = study.results()
    content = results.as_json()
    write_json(study.out / ANSWER, content)
    page = write_page(results, study.out)
    console.log.info("written: %s", study.out / ANSWER)
    console.log.info("page: %s", page)
    console.echo(dumps(content, indent=2) if as_json else answer(results, console.width()))
