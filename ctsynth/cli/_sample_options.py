"""The options of ``ctsynth sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ctsynth.cli._options import check_seed

WHAT, HOW, MACHINE = "What to draw", "How", "Machine"

Mask = Annotated[
    Path | None,
    typer.Option(
        help="Label volume (NIfTI; with ctsynth\\[formats] also .nrrd, .seg.nrrd, .mha, DICOM SEG, RTSTRUCT),"
        " or a folder of them.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Instead of --mask: a slice store.", show_default=False, rich_help_panel=WHAT),
]
Split = Annotated[Literal["train", "test"], typer.Option(help="Which subjects of --data.", rich_help_panel=WHAT)]
Model = Annotated[
    Path | None,
    typer.Option(help="Run or checkpoint.", show_default="newest run in runs/", rich_help_panel=WHAT),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder, or a file for one mask.",
        show_default="beside each mask; for --data: synthetic/",
        rich_help_panel=WHAT,
    ),
]
Format = Annotated[
    Literal["nii.gz", "nii", "nrrd", "mha", "dicom"],
    typer.Option(
        "--format",
        help="Format of the volumes, unless --out names a file; dicom writes folders.",
        rich_help_panel=WHAT,
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        help="Volumes of each mask, NAME_synthetic_0 and so on, with --seed and the next ones.",
        rich_help_panel=WHAT,
    ),
]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        help="Write mean and standard deviation of the samples, too: NAME_mean, NAME_std, HU.",
        rich_help_panel=WHAT,
    ),
]
Outside = Annotated[
    Literal["window", "air"],
    typer.Option(
        help="Values outside the patient: the model's own, in the window, or air, -1000 HU.",
        rich_help_panel=WHAT,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="The masks' label set: amos22, totalsegmentator, a .json of yours, or a dataset.json.",
        show_default="names in the header or a dataset.json, else the model's",
        rich_help_panel=WHAT,
    ),
]
Unmatched = Annotated[
    Literal["body", "background"] | None,
    typer.Option(
        help="Replacement for classes that the model does not have.",
        show_default="body; an error from 0.1 % of the patient",
        rich_help_panel=WHAT,
    ),
]
BodyFrom = Annotated[
    Path | None,
    typer.Option(
        help="CT on the mask's grid: source of a missing body, and of tissues if the model has them.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Given = Annotated[
    Path | None,
    typer.Option(
        help="edm-volume: CT on the mask's grid; --given-slices are kept and the others drawn.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
GivenSlices = Annotated[
    str | None,
    typer.Option(
        metavar="RANGES",
        help="Which slices of --given, from the feet, ends excluded: 0:10,40:50. They get the model's"
        " size and window.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Tissues = Annotated[
    bool,
    typer.Option(
        "--tissues/--no-tissues",
        help="For a model with tissues: use them if known, or the body as one class.",
        rich_help_panel=WHAT,
    ),
]
Preset = Annotated[
    Literal["fast", "paper"],
    typer.Option(
        help="fast: dpm++ in 20 steps, edm in 10; paper: ancestral in 1000. GANs draw in one pass.",
        rich_help_panel=HOW,
    ),
]
Sampler = Annotated[
    Literal["dpm++", "ddim", "ddpm"] | None,
    typer.Option(help="dpm++ (2M), ddim, or ddpm (ancestral).", show_default="the preset's", rich_help_panel=HOW),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Network evaluations a slice.", show_default="the preset's", rich_help_panel=HOW),
]
Guidance = Annotated[
    float,
    typer.Option(
        min=0,
        help="Scale of classifier-free guidance, 1 for none; needs a model trained with label dropout.",
        rich_help_panel=HOW,
    ),
]
Eta = Annotated[
    float,
    typer.Option(min=0, max=1, help="With ddim: 0 is deterministic, 1 as noisy as ddpm.", rich_help_panel=HOW),
]
Pix2pixTest = Annotated[
    Literal["eval", "original"] | None,
    typer.Option(
        help="original: Pix2Pix as published, with dropout and each slice's own statistics.",
        show_default="eval",
        rich_help_panel=HOW,
    ),
]
Seed = Annotated[int, typer.Option(callback=check_seed, help="Same seed, same volume.", rich_help_panel=HOW)]
Noise = Annotated[
    Literal["volume", "slice"] | None,
    typer.Option(
        help="Start neighboring slices from similar noise (volume) or independent noise (slice).",
        show_default="volume; edm-volume: slice",
        rich_help_panel=HOW,
    ),
]
Chunk = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="edm-volume: slices drawn together; a longer volume is drawn chunk after chunk, in less memory.",
        show_default="128",
        rich_help_panel=HOW,
    ),
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Use the raw weights, not the averaged ones.", rich_help_panel=HOW)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Draw existing volumes again, also those of other settings.", rich_help_panel=HOW
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Slices at once; changes rounding only. For edm-volume see --chunk.",
        show_default="16; on a CPU 4",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    Literal["auto", "cuda", "mps", "cpu"], typer.Option(help="Where to draw.", rich_help_panel=MACHINE)
]
Precision = Annotated[
    Literal["auto", "bf16", "fp32"],
    typer.Option(help="auto is bf16 on a GPU that has it.", rich_help_panel=MACHINE),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="On a GPU: compile the network, which takes minutes at first; changes rounding only.",
        rich_help_panel=MACHINE,
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Draw only share I of N; slurm takes I and N from the job array.",
        rich_help_panel=MACHINE,
    ),
]
