"""What ``ctsynth preprocess`` prints: the subjects, slices and voxels of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ctsynth.cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from ctsynth.data.summary import Summary


def show(summary: Summary, out: Path, as_json: bool) -> None:
    """Prints the tables, or one JSON object."""
    if as_json:
        import json

        console.echo(json.dumps(summary.as_json(out)))
        return
    from rich.table import Table

    from ctsynth.data.summary import PAPER_SLICES

    table = Table()
    table.add_column("split")
    table.add_column("subjects", justify="right")
    table.add_column("slices", justify="right")
    is_amos = summary.layout.name == "amos22" and not summary.layout.phantom
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

    from ctsynth.data.summary import PAPER_SLICES

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
    from ctsynth.data.summary import PAPER_SLICES
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
    yield f"SHA-256 of the list of test subjects: {summary.test_digest}"
    if is_amos:
        same = all(summary.slices(split) == paper for split, paper in PAPER_SLICES.items())
        yield "slices equal the paper's" if same else "slices differ from the paper's: not the same subjects"
