"""``ctsynth preprocess``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ctsynth.cli import console
from ctsynth.cli._settings import settings_options
from ctsynth.cli._store_summary import show
from ctsynth.data.settings import Settings, SplitRule

_LAYOUT = "Data set"
_SPLIT = "Train and test"
_PICTURE = "Slices"
_RUN = "Run"


Source = Annotated[Path, typer.Argument(metavar="SRC", help="Folder of the data set.", show_default=False)]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the slice store.", show_default=False)]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Folder of CT volumes, in SRC or elsewhere, if SRC has another layout.",
        show_default=False,
        rich_help_panel=_LAYOUT,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Folder of label volumes, named as those in --images.",
        show_default=False,
        rich_help_panel=_LAYOUT,
    ),
]
LabelSetName = Annotated[
    str,
    typer.Option(
        help="The classes of the store: amos22, totalsegmentator, a .json of yours, or dataset, those that"
        " SRC/dataset.json names.",
        rich_help_panel=_LAYOUT,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, up to 2 GB each.", show_default="cores, at most 8", rich_help_panel=_RUN),
]
Shard = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Make only share I of N; slurm takes I and N from the job array.",
        rich_help_panel=_RUN,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Make all subjects again, also finished ones.", rich_help_panel=_RUN)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=_RUN)]


@settings_options(
    {
        _LAYOUT: ["unmatched"],
        _SPLIT: ["test_subjects", "split", "test_fraction", "seed"],
        _PICTURE: ["size", "level", "width"],
        _RUN: [],
    },
    settings=Settings,
    rule=SplitRule,
)
def command(
    source: Source,
    out: Out,
    images: Images = None,
    labels: Labels = None,
    label_set: LabelSetName = "amos22",
    workers: Workers = None,
    shard: Shard = "1/1",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    *,
    settings: Settings,
    rule: SplitRule,
) -> None:
    """Make the slice store that training reads from CT and label volumes.

    SRC is AMOS22 (imagesTr, labelsTr, imagesVa, labelsVa), nnU-Net raw
    (imagesTr/NAME_0000.nii.gz, labelsTr/NAME.nii.gz), or any folder with
    --images and --labels. Every axial slice is kept, clipped to the window
    and resized; the body is found and becomes the last label. Writes
    OUT/manifest.json and OUT/train|test/NAME/ct.npy and mask.npy:

        ctsynth preprocess amos/ out/
        ctsynth preprocess mine/ out/ --images ct --labels seg --test-fraction 0.2
        ctsynth preprocess amos/ out/ --shard $((SLURM_ARRAY_TASK_ID + 1))/8

    Volumes are NIfTI; with the extra `formats` also .nrrd, .seg.nrrd, .mha and
    DICOM: a folder NAME for the CT series, NAME.dcm for its SEG or RTSTRUCT.

    Labels are matched by name where they have names, in the header of a
    label volume or in SRC/dataset.json; else by number. The table shows the
    voxels of each class:

        ctsynth preprocess Dataset042/ out/ --label-set dataset

    Finished, up-to-date subjects are kept, so the same command continues
    where it stopped. A broken subject does not stop the others; each is named
    at the end, and the exit code is 1.
    """
    from ctsynth.data.preprocess import find_cases, preprocess
    from ctsynth.data.summary import BrokenSubjectsError
    from ctsynth.files import sole
    from ctsynth.label_files import named_label_set
    from ctsynth.shards import lock_name, parse

    classes = named_label_set(label_set, source, labels)
    settings = replace(settings, labels=classes, rule=rule, image_folder=images, label_folder=labels)
    share = parse(shard)
    total = len(find_cases(source, settings, share)[1])
    try:
        lock = sole(out / lock_name("preprocess", shard))
        with lock, console.progress("preprocess", total) as progress:
            summary = preprocess(
                source, out, settings=settings, workers=workers, shard=share, overwrite=overwrite,
                progress=progress,
            )  # fmt: skip
    except BrokenSubjectsError as error:
        show(error.summary, out, as_json)
        raise
    show(summary, out, as_json)
