"""``ctsynth train``."""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ctsynth.cli import console
from ctsynth.errors import Interrupted, RunError, UsageError

if TYPE_CHECKING:
    import torch

    from ctsynth.config import RunConfig
    from ctsynth.training.distributed import World

DATA, NET, COST, RUN = "Data and run", "Method", "Optimization", "Machine"


def command(
    cond: Annotated[
        Literal["concat", "mask", "edge"] | None,
        typer.Option(
            help="How the diffusion model reads the mask; short for --method ddpm-COND.", rich_help_panel=NET
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Any of `ctsynth info`'s methods.", show_default="ddpm-mask", rich_help_panel=NET),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="paper, small, tiny; for sdm also sdm-official and guided. small and tiny suit a CPU.",
            show_default="paper on a GPU, else small",
            rich_help_panel=NET,
        ),
    ] = None,
    mask_encoding: Annotated[
        Literal["onehot", "index"] | None,
        typer.Option(
            help="One channel a class, or the class id in one.", show_default="onehot", rich_help_panel=NET
        ),
    ] = None,
    prediction: Annotated[
        Literal["epsilon", "v"] | None,
        typer.Option(help="What the network predicts.", show_default="the preset's", rich_help_panel=NET),
    ] = None,
    schedule: Annotated[
        Literal["linear", "cosine"] | None,
        typer.Option(help="How the noise grows over T.", show_default="the preset's", rich_help_panel=NET),
    ] = None,
    label_dropout: Annotated[
        float | None,
        typer.Option(
            help="Share of slices whose mask a diffusion model does not see, for sample --guidance.",
            show_default="0",
            rich_help_panel=NET,
        ),
    ] = None,
    ttur: Annotated[
        bool | None,
        typer.Option(
            "--ttur/--no-ttur",
            help="SPADE: half the rate for the generator, twice for the discriminator.",
            show_default="yes",
            rich_help_panel=NET,
        ),
    ] = None,
    vgg: Annotated[
        Literal["auto", "yes", "no"] | None,
        typer.Option(
            help="SPADE: VGG19's perceptual loss; auto where its weights are.",
            show_default="auto",
            rich_help_panel=NET,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of the method, such as channels=96.",
            rich_help_panel=NET,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help=r"TOML with method, preset, \[training], \[options]; the command line wins.", rich_help_panel=NET
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="Slice store of `ctsynth preprocess`.", rich_help_panel=DATA)] = Path(
        "out"
    ),
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder.", show_default="runs/METHOD", rich_help_panel=DATA),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of a slice, pixels; must be the store's.", show_default="the store's", rich_help_panel=DATA
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume", help="Continue a run that is there, or refuse.", rich_help_panel=DATA
        ),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete a run that is there and begin again.", rich_help_panel=DATA)
    ] = False,
    iterations: Annotated[
        int | None,
        typer.Option(
            help="Optimizer steps.", show_default="150000; GANs 300 epochs; tiny 1000", rich_help_panel=COST
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Instead of --iterations: passes over the data set.", show_default=False, rich_help_panel=COST
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Slices a step.", show_default="16; tiny 8", rich_help_panel=COST)
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            help="Work a batch through in this many parts, to save memory.", show_default="1", rich_help_panel=COST
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="the method's own", rich_help_panel=COST)
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            help="Decay of the averaged weights.", show_default="0.9999; tiny 0.999", rich_help_panel=COST
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same weights.", show_default="0", rich_help_panel=COST)
    ] = None,
    save_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints.", show_default="5000; tiny 250", rich_help_panel=COST),
    ] = None,
    sample_every: Annotated[
        int | None,
        typer.Option(help="Steps between sample sheets.", show_default="5000; tiny 250", rich_help_panel=COST),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(help="GPUs of this machine.", show_default="1 where there is one", rich_help_panel=RUN),
    ] = None,
    ranks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --device cpu: processes that share each batch.",
            show_default="1",
            rich_help_panel=RUN,
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"], typer.Option(help="Where to train.", rich_help_panel=RUN)
    ] = "auto",
    precision: Annotated[
        Literal["auto", "bf16", "fp32"] | None,
        typer.Option(
            help="auto is bf16 on a GPU that has it, else fp32.", show_default="auto", rich_help_panel=RUN
        ),
    ] = None,
    compile_: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="Compile the networks.", show_default="no", rich_help_panel=RUN
        ),
    ] = None,
) -> None:
    """Train a model that draws a CT slice from its label map.

    Reads ./out and writes runs/METHOD: config.json, metrics.jsonl, loss.png,
    samples/step_*.png and checkpoints/. The same command continues a run that
    was broken off, bit for bit. SIGTERM and SIGUSR1 save and exit with 75.
    Under torchrun or srun it takes its ranks from there:

        ctsynth train --cond mask
        ctsynth train --cond concat --preset tiny --iterations 500
        ctsynth train --config paper.toml --out runs/ablation --seed 1

    Prints the run's folder.
    """
    from ctsynth.stop import Stop

    with Stop() as stop:
        from ctsynth.config import read_toml
        from ctsynth.data.store import Store
        from ctsynth.files import sole
        from ctsynth.training.distributed import find_world, joined
        from ctsynth.training.run import configure, settled, train

        if cond and method and method != f"ddpm-{cond}":
            raise UsageError(f"--cond {cond} is --method ddpm-{cond}, but --method says {method}")
        world = find_world()
        where, wanted = _place(device, gpus, ranks, world)
        file = read_toml(config) if config else {}
        chosen = f"ddpm-{cond}" if cond else method or file.get("method", "ddpm-mask")
        store = Store.open(data)
        if size not in (None, store.size):
            raise UsageError(
                f"--size {size}: the slices of {data} are {store.size}", hint=f"ctsynth preprocess --size {size}"
            )
        said = {
            "mask_encoding": mask_encoding, "prediction": prediction, "schedule": schedule,
            "label_dropout": label_dropout, "ttur": ttur, "vgg": vgg,
        }  # fmt: skip
        run = out or Path("runs") / chosen
        before = {} if overwrite else settled(run, chosen)
        optimization = {
            "iterations": iterations, "epochs": epochs, "batch_size": batch_size, "accumulate": accumulate,
            "lr": lr, "ema": ema, "seed": seed, "save_every": save_every, "sample_every": sample_every,
            "precision": precision, "compile": compile_,
        }  # fmt: skip
        resolved = configure(
            store,
            chosen,
            preset=preset or file.get("preset", "auto"),
            options={**before, **file.get("options", {}), **_given(said), **_parse(set_ or [])},
            training={**file.get("training", {}), **_given(optimization)},
            device=where,
        )
        if wanted > 1 and world.size == 1:
            from ctsynth.training.launch import launch

            console.log.info("%d ranks on this machine", wanted)
            raise typer.Exit(launch(sys.argv[1:], wanted))
        if not world.is_first:
            console.log.setLevel(logging.WARNING)
        lock = sole(run / ".train.lock") if world.is_first else nullcontext()
        try:
            with lock, joined(world, where):
                if world.is_first:
                    _make_way(run, resume=resume, overwrite=overwrite)
                    _say(chosen, resolved, where, run)
                resolved = world.of_first(resolved)  # one node may have VGG's weights, and another not
                with console.progress("train", resolved.training.iterations) as progress:
                    train(store, run, resolved, device=where, stop=stop, progress=progress, world=world)
        except (Interrupted, RunError) as error:  # on all ranks at once: the first tells it
            if world.is_first:
                raise
            raise typer.Exit(error.exit_code) from None
    if world.is_first:
        console.echo(str(run))


def _place(device: str, gpus: int | None, ranks: int | None, world: World) -> tuple[torch.device, int]:
    """Where this process trains, and how many ranks there should be."""
    import torch

    from ctsynth.device import check_gpus, find_device

    if gpus is not None and world.size == 1:
        check_gpus(gpus)
    if gpus is not None and device in ("cpu", "mps"):
        raise UsageError(f"--gpus {gpus} with --device {device}: name one of the two")
    where = find_device(device)
    if ranks is not None and where.type != "cpu":
        raise UsageError(f"--ranks {ranks} is for --device cpu", hint=f"say --gpus {ranks}")
    if where.type == "cuda" and world.size > 1:
        check_gpus(world.local_rank + 1)
        where = torch.device("cuda", world.local_rank)
    return where, gpus or ranks or 1


def _say(method: str, config: RunConfig, where: torch.device, run: Path) -> None:
    settings = config.training
    if settings.epochs:
        console.log.info("%d epochs are %s iterations", settings.epochs, f"{settings.iterations:,}")
    console.log.info(
        "%s, preset %s, %s, %s: %d slices of %d subjects -> %s",
        method, config.preset, where, settings.precision, config.data["slices"], config.data["subjects"], run,
    )  # fmt: skip
    if config.preset not in ("paper", "sdm-official", "guided"):
        console.log.info("--preset paper is the paper's network and schedule; it wants a GPU")


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _parse(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE as TOML has it; a bare word is a string."""
    import tomllib

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair!r}: wanted KEY=VALUE, such as channels=96")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings


def _make_way(run: Path, *, resume: bool, overwrite: bool) -> None:
    import shutil

    if not (run / "config.json").exists():
        return
    if overwrite:  # what is ours and no more, for --out may name any folder; config.json, which marks a run, last
        for name in ("checkpoints", "samples"):
            shutil.rmtree(run / name, ignore_errors=True)
        for name in ("latest", "metrics.jsonl", "loss.png", "config.json"):
            (run / name).unlink(missing_ok=True)
    elif not resume:
        raise UsageError(
            f"{run} is there", hint="continue it (--resume), replace it (--overwrite) or name another --out"
        )
