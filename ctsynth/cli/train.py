"""``ctsynth train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ctsynth.cli import _training as shared
from ctsynth.cli import console
from ctsynth.cli._settings import settings_options
from ctsynth.cli._training import COST, DATA, NET, RUN
from ctsynth.config import TrainingConfig, read_settings
from ctsynth.errors import UsageError
from ctsynth.schema import Help, check_named
from ctsynth.stop import Stop

if TYPE_CHECKING:
    from ctsynth.config import RunConfig
    from ctsynth.data.store import Store

SPEED = "Speed and memory"

Cond = Annotated[
    Literal["concat", "mask", "edge"] | None,
    typer.Option(
        help="How the diffusion model reads the mask; short for --method ddpm-COND.", rich_help_panel=NET
    ),
]
Method = Annotated[
    str | None,
    typer.Option(help="Any of `ctsynth info`'s methods.", show_default="ddpm-mask", rich_help_panel=NET),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="paper, small, tiny; for sdm also sdm-official and guided. small and tiny suit a CPU.",
        show_default="paper on a GPU, else small",
        rich_help_panel=NET,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help=r"TOML with method, preset, \[training], \[options], or a run's config.json; options here win.",
        rich_help_panel=NET,
    ),
]
Data = Annotated[Path, typer.Option(help="Slice store of `ctsynth preprocess`.", rich_help_panel=DATA)]
Out = Annotated[
    Path | None,
    typer.Option(help="The run's folder.", show_default="runs/METHOD", rich_help_panel=DATA),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="Side of a slice, pixels; must be the store's.", show_default="the store's", rich_help_panel=DATA
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Run or checkpoint whose averaged weights to start from; edm-volume also takes edm's.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Estimate memory, time and disk of the run; measures for half a minute, writes nothing.",
        rich_help_panel=DATA,
    ),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodOptions:
    """Settings of methods that have an option of their own; all others are set by --set."""

    mask_encoding: Annotated[
        Literal["onehot", "index"] | None, Help("One channel a class, or the class id in one.", "onehot")
    ] = None
    prediction: Annotated[Literal["epsilon", "v"] | None, Help("What the network predicts.", "the preset's")] = (
        None
    )
    schedule: Annotated[
        Literal["linear", "cosine"] | None, Help("How the noise grows over T.", "the preset's")
    ] = None
    label_dropout: Annotated[
        float | None,
        Help("Share of slices that a diffusion model trains on without their mask, for sample --guidance.", "0"),
    ] = None
    label_context: Annotated[
        int | None,
        Help("Number of slices above and below whose label maps are read as well; not for edm-volume.", "0"),
    ] = None
    ttur: Annotated[
        bool | None, Help("SPADE: half the rate for the generator, twice for the discriminator.", "yes")
    ] = None
    vgg: Annotated[
        Literal["auto", "yes", "no"] | None,
        Help("SPADE: VGG19's perceptual loss; auto: if its weights are installed.", "auto"),
    ] = None


@settings_options(
    {
        NET: [
            *("mask_encoding", "prediction", "schedule", "label_dropout", "label_context", "ttur", "vgg"),
            *("tissue_dropout", "set_", "config"),
        ],
        DATA: ["tensorboard"],
        COST: [
            *("iterations", "epochs", "batch_size", "accumulate", "lr", "ema", "seed"),
            *("save_every", "keep_every", "sample_every"),
        ],
        RUN: ["precision"],
        SPEED: ["compile", "checkpointing"],
    },
    training=TrainingConfig,
    options=MethodOptions,
)
def command(
    cond: Cond = None,
    method: Method = None,
    preset: Preset = None,
    set_: shared.Set = None,
    config: Config = None,
    data: Data = Path("out"),
    out: Out = None,
    size: Size = None,
    from_: From = None,
    resume: shared.Resume = True,
    overwrite: shared.Overwrite = False,
    dry_run: DryRun = False,
    gpus: shared.Gpus = None,
    ranks: shared.Ranks = None,
    device: shared.Device = "auto",
    *,
    training: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Train a model that draws a CT slice from its label map.

    Reads ./out and writes runs/METHOD: config.json, metrics.jsonl, loss.png,
    samples/step_*.png and checkpoints/. The same command continues an
    interrupted run, bit for bit. SIGTERM and SIGUSR1 save and exit with 75,
    Ctrl-C with 130.
    Under torchrun or srun it takes its ranks from there:

        ctsynth train --cond mask
        ctsynth train --cond concat --preset tiny --iterations 500
        ctsynth train --config paper.toml --out runs/ablation --seed 1
        ctsynth train --config runs/ddpm-mask/config.json --out runs/again
        ctsynth train --preset paper --gpus 4 --dry-run

    Prints the run's folder.
    """
    with Stop() as stop:
        file = read_settings(config) if config else {}
        settings = {**file.get("training", {}), **training}
        shared.check_batch(settings, gpus or ranks)

        from ctsynth.methods.base import find_method
        from ctsynth.training.configure import configure, resolved_before
        from ctsynth.training.start import begun_from

        chosen = _find_method(cond, method, file.get("method", "ddpm-mask"))
        check_named(find_method(chosen).Options, file.get("options", {}), str(config), "options")
        place = shared.find_place(device, gpus, ranks)
        store = _open_store(data, size, asks_for_tissues="tissue_dropout" in training)
        run = out or Path("runs") / chosen
        before = {} if overwrite else resolved_before(run, chosen)
        resolved = configure(
            store, chosen, preset=preset or file.get("preset", "auto"),
            options={**before, **file.get("options", {}), **options, **shared.parse(set_)},
            training=settings, device=place.device,
        )  # fmt: skip
        if from_ is not None:
            resolved = begun_from(resolved, from_, run, overwrite=overwrite)
        if dry_run:
            _forecast(store, resolved, place, stop)
        else:
            shared.fit(store, run, resolved, place, stop, resume=resume, overwrite=overwrite)


def _find_method(cond: str | None, method: str | None, default: str) -> str:
    """The method that is named, if there is such a method, and not a segmenter."""
    from ctsynth.methods.base import find_method

    if cond and method and method != f"ddpm-{cond}":
        raise UsageError(f"--cond {cond} is --method ddpm-{cond}, but --method says {method}")
    name = f"ddpm-{cond}" if cond else method or default
    find_method(name)
    return name


def _open_store(data: Path, size: int | None, *, asks_for_tissues: bool) -> Store:
    from ctsynth.data.store import Store

    store = Store.open(data)
    if size not in (None, store.size):
        raise UsageError(
            f"--size {size}: the slices of {data} are {store.size}", hint=f"ctsynth preprocess --size {size}"
        )
    if asks_for_tissues and not store.labels.tissues:
        raise UsageError(f"--tissue-dropout: the labels of {data}, {store.labels.name}, have no tissues")
    return store


def _forecast(store: Store, config: RunConfig, place: shared.Place, stop: Stop) -> None:
    from ctsynth.stop import Stopped
    from ctsynth.training.dryrun import forecast

    if not place.world.is_first:
        return
    ranks = max(place.ranks, place.world.size)
    try:
        with stop.interruptible():
            found = forecast(store, config, place.device, ranks=ranks)
    except Stopped:
        raise stop.interrupted("stopped by SIGNAL", "a dry run writes nothing: start it again") from None
    for name, value in found.table(config, place.device, ranks).items():
        console.echo(f"{name:<13} {value}")
