"""``ctsynth preprocess``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ctsynth.cli import console
from ctsynth.cli._options import check_seed

if TYPE_CHECKING:
    from rich.table import Table

    from ctsynth.data.summary import Summary
    from ctsynth.labels import LabelSet

PAPER_SLICES = {"train": 26_069, "test": 6_559}
"""The paper's slices (Sec. 3): of 200 and 50 AMOS22 CT."""

_LAYOUT = "Data set"
_SPLIT = "Train and test"
_PICTURE = "Slices"
_RUN = "Run"


def command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of the data set.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the slice store.", show_default=False)],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of CT volumes, in SRC or elsewhere, where SRC has a layout of its own.",
            show_default=False,
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Folder of label volumes of the same names as in --images.",
            show_default=False,
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    label_set: Annotated[
        str,
        typer.Option(
            help="The classes of the store: amos22, totalsegmentator, a .json of yours, or dataset, those that"
            " SRC/dataset.json names.",
            rich_help_panel=_LAYOUT,
        ),
    ] = "amos22",
    unmatched: Annotated[
        Literal["body", "background"] | None,
        typer.Option(
            help="What classes become that the label set does not have.",
            show_default="body; an error from 0.1 % of the patient",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    test_subjects: Annotated[
        int,
        typer.Option(min=0, help="The first N CT of imagesVa, by id, are test.", rich_help_panel=_SPLIT),
    ] = 50,
    split: Annotated[
        Path | None,
        typer.Option(
            help='JSON: {"train": ["name", ...], "test": [...]}.', show_default=False, rich_help_panel=_SPLIT
        ),
    ] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Draw this share of all subjects for test.",
            show_default=False,
            rich_help_panel=_SPLIT,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(callback=check_seed, help="For --test-fraction.", rich_help_panel=_SPLIT)
    ] = 0,
    size: Annotated[
        int, typer.Option(min=8, max=4096, help="Side of the slices, pixels.", rich_help_panel=_PICTURE)
    ] = 256,
    level: Annotated[float, typer.Option(help="Middle of the CT window, HU.", rich_help_panel=_PICTURE)] = 40,
    width: Annotated[float, typer.Option(help="Width of the CT window, HU.", rich_help_panel=_PICTURE)] = 400,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes, up to 2 GB each.", show_default="cores, at most 8", rich_help_panel=_RUN
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Make the I-th of N shares only, or slurm: as the array says.",
            rich_help_panel=_RUN,
        ),
    ] = "1/1",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make all again, also what is whole.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=_RUN)] = False,
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

    Labels are matched by name where they have names, in the header of a
    label volume or in SRC/dataset.json; else by number. The table shows the
    voxels of each class:

        ctsynth preprocess Dataset042/ out/ --label-set dataset

    What is whole and up to date is kept, so the same command goes on where
    it was stopped. A broken subject does not stop the others; each is named
    at the end, and the exit code is 1.
    """
    from ctsynth.data.layouts import SplitRule
    from ctsynth.data.preprocess import Settings, find_cases, preprocess
    from ctsynth.data.summary import BrokenSubjectsError
    from ctsynth.files import sole
    from ctsynth.shards import lock_name, parse

    rule = SplitRule(test_subjects=test_subjects, file=split, test_fraction=test_fraction, seed=seed)
    settings = Settings(
        size=size,
        level=level,
        width=width,
        labels=_label_set(label_set, source, labels),
        unmatched=unmatched,
        rule=rule,
        image_folder=images,
        label_folder=labels,
    )
    share = parse(shard)
    total = len(find_cases(source, settings, share)[1])
    try:
        lock = sole(out / lock_name("preprocess", shard))
        with lock, console.progress("preprocess", total) as progress:
            summary = preprocess(
                source,
                out,
                settings=settings,
                workers=workers,
                shard=share,
                overwrite=overwrite,
                progress=progress,
            )
    except BrokenSubjectsError as error:
        _show(error.summary, out, as_json)
        raise
    _show(summary, out, as_json)


def _label_set(name: str, source: Path, labels: Path | None) -> LabelSet:
    from ctsynth.errors import DataError
    from ctsynth.label_files import dataset_label_set, find_dataset_json, label_set

    if name != "dataset":
        return label_set(name)
    path = find_dataset_json(source / (labels or "labelsTr"), source)
    if path is None:
        raise DataError(
            f"{source}: no dataset.json that names labels", hint="write a label set of your own, as a .json file"
        )
    return dataset_label_set(path)


def _show(summary: Summary, out: Path, as_json: bool) -> None:
    if as_json:
        import json

        console.echo(json.dumps(_as_json(summary, out)))
        return
    from rich.table import Table

    table = Table()
    table.add_column("split")
    table.add_column("subjects", justify="right")
    table.add_column("slices", justify="right")
    is_amos = summary.layout.name == "amos22"
    if is_amos:
        table.add_column("the paper's", justify="right")
    for split, paper in PAPER_SLICES.items():
        row = (split, f"{summary.subjects(split):,}", f"{summary.slices(split):,}")
        table.add_row(*row, *([f"{paper:,}"] if is_amos else []))
    console.echo_table(table)
    console.echo(f"voxels in the slices, label set {summary.labels.name}:")
    console.echo_table(_classes(summary))
    console.echo(f"{out}: {summary.made} made, {summary.kept} kept, {len(summary.broken)} broken")
    for line in _remarks(summary, is_amos):
        console.echo(line)


def _classes(summary: Summary) -> Table:
    """The voxels of each class in the store."""
    from rich.table import Table

    table = Table()
    table.add_column("id", justify="right")
    table.add_column("class")
    for split in PAPER_SLICES:
        table.add_column(split, justify="right")
    voxels = {split: summary.voxels(split) for split in PAPER_SLICES}
    for number, name in summary.labels.names.items():
        if any(counts[number] for counts in voxels.values()):
            table.add_row(str(number), name, *(f"{counts[number]:,}" for counts in voxels.values()))
    return table


def _remarks(summary: Summary, is_amos: bool) -> Iterator[str]:
    from ctsynth.errors import shortened

    if summary.layout.skipped_mr:
        yield f"{summary.layout.skipped_mr} MR subjects (ids of 500 and above) skipped"
    if summary.layout.left_out:
        yield f"{summary.layout.left_out} CT subjects in neither split"
    missing = len(summary.layout.cases) - len(summary.records) - len(summary.broken)
    if missing:
        yield f"{missing} subjects not made yet: run the other shards"
    if absent := summary.absent():
        yield f"classes without a voxel: {shortened(absent)}"
    names = _test_names(summary)
    yield f"SHA-256 of the list of test subjects: {_fingerprint(names)}"
    if is_amos:
        same = all(summary.slices(split) == paper for split, paper in PAPER_SLICES.items())
        yield "slices equal the paper's" if same else "slices differ from the paper's: not the same subjects"


def _test_names(summary: Summary) -> list[str]:
    return [record["name"] for record in summary.records if record["split"] == "test"]


def _fingerprint(names: list[str]) -> str:
    """What two people compare to see whether they test on the same subjects."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _as_json(summary: Summary, out: Path) -> dict[str, Any]:
    splits = {
        split: {"subjects": summary.subjects(split), "slices": summary.slices(split), "paper_slices": paper}
        for split, paper in PAPER_SLICES.items()
    }
    return {
        "store": str(out),
        "layout": summary.layout.name,
        "splits": splits,
        "labels": summary.labels.name,
        "voxels": {
            name: {split: summary.voxels(split)[number] for split in PAPER_SLICES}
            for number, name in summary.labels.names.items()
        },
        "unmatched": summary.unmatched(),
        "test_subjects": _test_names(summary),
        "test_subjects_sha256": _fingerprint(_test_names(summary)),
        "made": summary.made,
        "kept": summary.kept,
        "skipped_mr": summary.layout.skipped_mr,
        "left_out": summary.layout.left_out,
        "broken": {name: error.message for name, error in summary.broken.items()},
    }
