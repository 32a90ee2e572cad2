"""``ctsynth demo``: every step on a machine without data, GPU or network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctsynth.cli import console
from ctsynth.cli._options import check_seed
from ctsynth.device import DeviceName

if TYPE_CHECKING:
    from ctsynth.data.store import Store
    from ctsynth.sampling.batches import SamplingConfig
    from ctsynth.scoring.scores import Scores
    from ctsynth.training.checkpoint import Trained

RECORD = "demo.json"
"""Records the settings that the demo in a folder was made with."""

KINDS = ("tissues", "body")
"""What the volumes are drawn from; the viewer shows one of the first kind."""

SUBJECTS, TEST_SUBJECTS, PHANTOM_SIZE, SLICES, SIZE = 12, 6, 96, 24, 64

Cond = Annotated[Literal["concat", "mask", "edge"], typer.Option(help="How the model reads the mask.")]


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for all results.")] = Path("demo"),
    cond: Cond = "mask",
    iterations: Annotated[
        int, typer.Option(min=10, help="Training steps; 500 take half as long and look half as good.")
    ] = 1000,
    seed: Annotated[int, typer.Option(callback=check_seed, help="Same seed, same demo.")] = 0,
    device: Annotated[DeviceName, typer.Option(help="Where to train and to draw.")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start the demo in OUT again, also with other settings.")
    ] = False,
) -> None:
    """Run every step on phantoms: five minutes on two CPU cores.

    Makes 18 synthetic phantoms (no patients), preprocesses them, trains the
    tiny preset, draws the CT of six test subjects from their masks, once with
    the tissues of the body and once without, scores both and writes a page.
    Run again, it continues where it was stopped:

        ctsynth demo
        ctsynth demo tour --cond concat --iterations 500

    Prints the scores and where the page is.
    """
    started = time.monotonic()
    from ctsynth.device import find_device
    from ctsynth.files import write_json
    from ctsynth.reporting.page import build_report
    from ctsynth.reporting.tables import remarks, render
    from ctsynth.sampling.batches import resolve
    from ctsynth.sampling.settings import SamplingSettings
    from ctsynth.stop import Stop
    from ctsynth.training import checkpoint
    from ctsynth.training.configure import configure
    from ctsynth.training.run import train
    from ctsynth.training.run_folder import make_way

    made_with = {"cond": cond, "iterations": iterations, "seed": seed}
    _refuse_other(out / RECORD, made_with, overwrite=overwrite)
    where = find_device(device)
    store = _make_store(out, seed, overwrite=overwrite)
    method = f"ddpm-{cond}"
    run = out / "runs" / method
    training = {"iterations": iterations, "seed": seed}
    config = configure(store, method, preset="tiny", options={}, training=training, device=where)
    make_way(run, resume=True, overwrite=overwrite)
    write_json(out / RECORD, made_with)
    with Stop() as stop, console.progress("train", iterations) as progress:
        train(store, run, config, device=where, stop=stop, progress=progress)
    trained = checkpoint.load(checkpoint.find(run), where)
    settings = SamplingSettings(seed=seed, batch_size=16, precision=config.training.precision)
    sampling = resolve(settings, trained.method, where)
    scored = _draw_and_score(store, trained, sampling, out, overwrite=overwrite)
    shown = [run, *(out / "synthetic" / f"from_{kind}" for kind in KINDS)]
    page = build_report(shown, out / "report", overwrite=overwrite, viewer=True)
    console.echo(render(scored, "table", console.width()))
    for words in dict.fromkeys(words for scores in scored.values() for words in remarks(scores)):
        console.log.info("%s", words)
    console.log.info("done in %.0f s; open the page:", time.monotonic() - started)
    console.echo(str(page))


def _make_store(out: Path, seed: int, *, overwrite: bool) -> Store:
    """Phantoms, and the slice store of them."""
    from ctsynth.data.preprocess import preprocess
    from ctsynth.data.settings import Settings
    from ctsynth.data.store import Store
    from ctsynth.label_files import label_set
    from ctsynth.phantom import make_phantom

    total = SUBJECTS + TEST_SUBJECTS
    with console.progress("phantom", total) as progress:
        make_phantom(
            out / "phantom", subjects=SUBJECTS, test_subjects=TEST_SUBJECTS, size=PHANTOM_SIZE, slices=SLICES,
            seed=seed, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    with console.progress("preprocess", total) as progress:
        settings = Settings(size=SIZE, labels=label_set("amos22+tissues"))
        preprocess(
            out / "phantom", out / "store", settings=settings, workers=1, overwrite=overwrite, progress=progress
        )
    return Store.open(out / "store")


def _draw_and_score(
    store: Store, trained: Trained, sampling: SamplingConfig, out: Path, *, overwrite: bool
) -> dict[str, Scores]:
    """The scores of what is drawn from the tissues, and of what is drawn from the body as one class."""
    from ctsynth.sampling import volumes
    from ctsynth.sampling.cases import cases_of_store
    from ctsynth.sampling.settings import MaskSettings
    from ctsynth.scoring.run import score
    from ctsynth.stop import Stop

    scored = {}
    for kind in KINDS:
        folder = out / "synthetic" / f"from_{kind}"
        cases = cases_of_store(store, "test", trained, folder, MaskSettings(tissues=kind == "tissues"))
        with Stop() as stop, console.progress(f"sample from {kind}", len(cases)) as progress:
            list(volumes.sample(trained, cases, sampling, stop=stop, overwrite=overwrite, progress=progress))
        scores = score(folder, store, "test", overwrite=overwrite)
        scores.save(folder / "scores.json", overwrite=overwrite)
        scored[scores.name] = scores
    return scored


def _refuse_other(record: Path, settings: Mapping[str, object], *, overwrite: bool) -> None:
    """Refuses a demo over one that was made with other settings, before minutes are spent."""
    from ctsynth.errors import UsageError
    from ctsynth.files import read_json

    if not record.exists():
        return
    before = read_json(record)
    if not isinstance(before, dict) or before.keys() != settings.keys():
        raise UsageError(f"{record}: not that of a demo", hint="name another folder")
    for key, value in settings.items():
        if before[key] != value and not overwrite:
            raise UsageError(
                f"{record.parent}: the demo there was made with {key} {before[key]}, not {value}",
                hint="name another folder, or begin again with --overwrite",
            )
