"""``ctsynth sample``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctsynth.cli import console
from ctsynth.cli._options import check_seed
from ctsynth.errors import UsageError

if TYPE_CHECKING:
    from ctsynth.diffusion.samplers import SamplerConfig
    from ctsynth.methods.base import Method

WHAT, HOW, MACHINE = "What to draw", "How", "Machine"


def command(
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Label volume (NIfTI; with ctsynth\\[formats] also .nrrd, .seg.nrrd, .mha, DICOM SEG, RTSTRUCT),"
            " or a folder of them.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Instead of --mask: a slice store.", show_default=False, rich_help_panel=WHAT),
    ] = None,
    split: Annotated[
        Literal["train", "test"], typer.Option(help="Which subjects of --data.", rich_help_panel=WHAT)
    ] = "test",
    model: Annotated[
        Path | None,
        typer.Option(help="Run or checkpoint.", show_default="newest run in runs/", rich_help_panel=WHAT),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder, or a file for one mask.",
            show_default="beside each mask; for --data: synthetic/",
            rich_help_panel=WHAT,
        ),
    ] = None,
    format_: Annotated[
        Literal["nii.gz", "nii", "nrrd", "mha", "dicom"],
        typer.Option(
            "--format", help="Of the volumes, unless --out names a file; dicom: a folder.", rich_help_panel=WHAT
        ),
    ] = "nii.gz",
    samples: Annotated[
        int,
        typer.Option(
            min=1,
            max=1000,
            help="Volumes of each mask, NAME_synthetic_0 and on, with this seed and the next ones.",
            rich_help_panel=WHAT,
        ),
    ] = 1,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Write mean and standard deviation of the samples, too: NAME_mean, NAME_std, HU.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    outside: Annotated[
        Literal["window", "air"],
        typer.Option(
            help="Outside the patient: what is drawn, which is in the window, or air: -1000 HU.",
            rich_help_panel=WHAT,
        ),
    ] = "window",
    labels: Annotated[
        str | None,
        typer.Option(
            help="The masks' label set: amos22, totalsegmentator, a .json of yours, or a dataset.json.",
            show_default="names in the header or a dataset.json, else the model's",
            rich_help_panel=WHAT,
        ),
    ] = None,
    unmatched: Annotated[
        Literal["body", "background"] | None,
        typer.Option(
            help="What classes become that the model does not know.",
            show_default="body; an error from 0.1 % of the patient",
            rich_help_panel=WHAT,
        ),
    ] = None,
    body_from: Annotated[
        Path | None,
        typer.Option(
            help="CT on the mask's grid to take a missing body from, and the tissues if the model has them.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            help="edm-volume: CT on the mask's grid, of which --given-slices are kept and the others drawn.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    given_slices: Annotated[
        str | None,
        typer.Option(
            metavar="RANGES",
            help="Which slices of --given, from the feet, ends excluded: 0:10,40:50. They come out at the model's"
            " size and within its window.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    tissues: Annotated[
        bool,
        typer.Option(
            "--tissues/--no-tissues",
            help="For a model of a set with tissues: draw from them where they are known, or from body alone.",
            rich_help_panel=WHAT,
        ),
    ] = True,
    preset: Annotated[
        Literal["fast", "paper"],
        typer.Option(
            help="fast: dpm++ in 20 steps, edm in 10; paper: ancestral in 1000. GANs draw in one pass.",
            rich_help_panel=HOW,
        ),
    ] = "fast",
    sampler: Annotated[
        Literal["dpm++", "ddim", "ddpm"] | None,
        typer.Option(
            help="dpm++ (2M), ddim, or ddpm (ancestral).", show_default="the preset's", rich_help_panel=HOW
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Network evaluations a slice.", show_default="the preset's", rich_help_panel=HOW),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            min=0,
            help="Scale of classifier-free guidance, 1 for none; the model must have seen label dropout.",
            rich_help_panel=HOW,
        ),
    ] = 1.0,
    eta: Annotated[
        float,
        typer.Option(min=0, max=1, help="With ddim: 0 is deterministic, 1 as noisy as ddpm.", rich_help_panel=HOW),
    ] = 0.0,
    pix2pix_test: Annotated[
        Literal["eval", "original"] | None,
        typer.Option(
            help="original: Pix2Pix as published, with dropout and each slice's own statistics.",
            show_default="eval",
            rich_help_panel=HOW,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(callback=check_seed, help="Same seed, same volume.", rich_help_panel=HOW)
    ] = 0,
    noise: Annotated[
        Literal["volume", "slice"] | None,
        typer.Option(
            help="Start neighboring slices from alike noise, or each from its own.",
            show_default="volume; edm-volume: slice",
            rich_help_panel=HOW,
        ),
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="edm-volume: slices drawn together; a longer volume is drawn chunk after chunk, in less memory.",
            show_default="128",
            rich_help_panel=HOW,
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Use the raw weights, not the averaged ones.", rich_help_panel=HOW)
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Draw again what was drawn, also with other settings.", rich_help_panel=HOW
        ),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Slices at once; changes rounding only.",
            show_default="16; on a CPU 4",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"], typer.Option(help="Where to draw.", rich_help_panel=MACHINE)
    ] = "auto",
    precision: Annotated[
        Literal["auto", "bf16", "fp32"],
        typer.Option(help="auto is bf16 on a GPU that has it.", rich_help_panel=MACHINE),
    ] = "auto",
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="For a GPU: compile the network, in minutes at the first start; changes rounding only.",
            rich_help_panel=MACHINE,
        ),
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Draw the I-th of N shares only, or slurm: as the array says.",
            rich_help_panel=MACHINE,
        ),
    ] = "1/1",
) -> None:
    """Draw a synthetic CT volume for each label volume.

    Each is written as int16 HU on the label volume's own grid, as
    NAME_synthetic.nii.gz beside it unless --out says otherwise, with a
    NAME_synthetic.json that tells what made it. Its path is printed:

        ctsynth sample --mask seg.nii.gz
        ctsynth sample --mask segs/ --out synthetic/ --labels totalsegmentator
        ctsynth sample --data out --split test --preset paper --shard 1/8
        ctsynth sample --mask seg.nii.gz --samples 8 --uncertainty
        ctsynth sample --mask seg.seg.nrrd --format nrrd --outside air
        ctsynth sample --mask seg.nii.gz --given ct.nii.gz --given-slices 0:20

    A volume that is whole and was made with the same settings is skipped, so
    the same command continues a broken one. One made with other settings is
    kept unless --overwrite says otherwise; masks, and files of yours, are
    never written over.
    """
    from ctsynth.stop import Stop

    if (mask is None) == (data is None):
        raise UsageError("name what to draw: either --mask or --data", hint="ctsynth sample --mask seg.nii.gz")
    if (given is None) != (given_slices is None):
        raise UsageError(
            "--given and --given-slices go together", hint="--given ct.nii.gz --given-slices 0:10,40:50"
        )
    if data and given:
        raise UsageError("--given is for --mask: name the subject's label volume")
    if data and (labels or body_from or unmatched):
        raise UsageError(
            "--labels, --unmatched and --body-from are for --mask: a store knows its labels and has a body"
        )
    if uncertainty and samples < 2:
        raise UsageError(f"--uncertainty wants 2 samples and more, not {samples}", hint="say --samples 8")
    with Stop() as stop:
        from ctsynth.device import find_device, find_precision
        from ctsynth.files import sole
        from ctsynth.shards import lock_name, take
        from ctsynth.training import checkpoint

        path = checkpoint.find(model)
        console.log.info("model: %s", path)
        where = find_device(device)
        trained = checkpoint.load(path, where, raw=raw)

        from ctsynth.data.store import Store
        from ctsynth.sampling import volumes
        from ctsynth.sampling.batches import SamplingConfig
        from ctsynth.sampling.cases import cases_of_masks, cases_of_store, samples_of
        from ctsynth.sampling.given import GivenSlices
        from ctsynth.sampling.uncertainty import check as check_summaries
        from ctsynth.sampling.uncertainty import summarize

        sampling = SamplingConfig(
            sampler=pick_sampler(trained.method, preset, sampler, steps, guidance, eta),
            seed=seed,
            noise=noise,
            chunk=chunk,
            batch_size=batch_size or (4 if where.type == "cpu" else 16),
            device=where,
            precision=find_precision(precision, where),
            compile=compile_,
            choices={"pix2pix_test": pix2pix_test} if pix2pix_test else {},
        )
        volumes.check(trained, sampling)
        if given and trained.method.window == 1:
            raise UsageError(f"{trained.config.method} draws slice by slice: it takes no --given")
        if not tissues and not trained.labels.tissues:
            raise UsageError(f"--no-tissues: the model's labels, {trained.labels.name}, have none")
        if mask is not None:
            cases = cases_of_masks(
                mask, trained, out, labels=labels, body_from=body_from, unmatched=unmatched, tissues=tissues,
                suffix=f".{format_}",
                given=GivenSlices(given, given_slices) if given and given_slices else None,
            )  # fmt: skip
        else:
            assert data is not None
            folder = out or Path("synthetic")
            cases = cases_of_store(Store.open(data), split, trained, folder, tissues=tissues, suffix=f".{format_}")
        cases = [replace(case, outside=outside) for case in take(cases, shard)]
        drawn = [samples_of(case, samples) if samples > 1 else [case] for case in cases]
        if uncertainty:
            check_summaries(cases)
        folder = cases[0].out.parent if cases else Path()
        everything = [sample for several in drawn for sample in several]
        with sole(folder / lock_name("sample", shard)), console.progress("sample", len(everything)) as progress:
            for volume in volumes.sample(
                trained, everything, sampling, stop=stop, overwrite=overwrite, progress=progress
            ):
                console.echo(str(volume))
            for case, several in zip(cases, drawn, strict=True) if uncertainty else ():
                for path in summarize(case, several, overwrite=overwrite):
                    console.echo(str(path))


def pick_sampler(
    method: Method,
    preset: str,
    name: str | None = None,
    steps: int | None = None,
    guidance: float = 1.0,
    eta: float = 0.0,
) -> SamplerConfig | None:
    """What was asked for, on top of the preset; None for a method that draws in one pass."""
    from ctsynth.diffusion.samplers import SamplerConfig

    if not method.samplers and name is None and steps is None and (guidance, eta) == (1, 0):
        return None
    default = ("ddpm", 1000) if preset == "paper" else ("dpm++", method.steps)
    return SamplerConfig(name=name or default[0], steps=steps or default[1], guidance=guidance, eta=eta)
