"""The paper's Tables 1 and 2 with its rows as printed beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctsynth.labels import AMOS22
from ctsynth.report.inputs import Entry, latest
from ctsynth.report.paper import Paper, PaperRow
from ctsynth.report.table import NOT_AT_HAND, NOTHING, Table, best_rows
from ctsynth.report.tables import number
from ctsynth.scores import Reference, Scores

OURS, PAPERS = "ctsynth", "paper"

ORGANS = {organ.name: organ.column for organ in AMOS22.classes if organ.column}
"""The paper's columns of organs; the Dice of each in %."""

KID = "fid_kid"
"""In scores.json a variant of FID; the paper has none."""

METRICS = {
    "fid": ("FID ↓", 2, False),
    KID: ("KID ↓", 4, False),
    "psnr": ("PSNR (dB) ↑", 2, True),
    "ssim": ("SSIM ↑", 3, True),
    "dice": ("DSC (%) ↑", 1, True),
}
"""The paper's columns of metrics, and KID beside its FID: heading, digits, whether higher is better."""

DICE_DIGITS = 1

NAMES = ("method", "iterations", "source", "sampler, steps")


@dataclass(frozen=True, slots=True)
class _Line:
    """One row: what stands in the columns of names, and where its numbers come from."""

    names: tuple[str, ...]
    ours: Mapping[str, float | None] = field(default_factory=dict)
    paper: PaperRow | None = None
    is_system: bool = False

    def cell(self, column: str, digits: int) -> str:
        """The number as text; the paper's as printed."""
        if self.paper is None:
            return number(self.ours.get(column), digits)
        return self.paper.values.get(column, NOTHING) or NOT_AT_HAND


def iteration_table(entries: Sequence[Entry], paper: Paper) -> Table:
    """Table 1: the paper's conditioners, and what was scored at several checkpoints, by iterations.

    Args:
        entries: All that was scored.
        paper: For its rows and titles.
    """
    rows = paper.tables[1].rows
    lengths: dict[str, set[int | None]] = {}
    scored = [entry for entry in entries if entry.scores]
    for entry in scored:
        lengths.setdefault(entry.method, set()).add(entry.iterations)
    wanted = {row.method for row in rows} | {method for method, found in lengths.items() if len(found) > 1}
    chosen = [entry for entry in scored if entry.method in wanted]
    iterations = sorted({e.iterations or 0 for e in chosen} | {row.iterations or 0 for row in rows})
    lines: list[_Line] = []
    for length in iterations:
        there = [entry for entry in chosen if (entry.iterations or 0) == length]
        lines += _by_method(there, [row for row in rows if (row.iterations or 0) == length], paper)
    return _table([*lines, *_references(chosen)], paper, 1)


def method_table(entries: Sequence[Entry], paper: Paper) -> Table:
    """Table 2: each method at its last checkpoint.

    Args:
        entries: All that was scored.
        paper: For its rows and titles.
    """
    chosen = latest(entries)
    return _table([*_by_method(chosen, paper.tables[2].rows, paper), *_references(chosen)], paper, 2)


def _by_method(entries: Sequence[Entry], rows: Sequence[PaperRow], paper: Paper) -> Iterator[_Line]:
    """Each method's row in the paper, then ours; methods in the paper's order, then others."""
    for method in dict.fromkeys([*paper.methods, *(entry.method for entry in entries)]):
        title = paper.method(method)
        for row in rows:
            if row.method == method:
                yield _Line((title, row.trained, PAPERS, NOTHING), paper=row)
        for entry in entries:
            if entry.method == method and entry.scores:
                length = NOTHING if entry.iterations is None else f"{entry.iterations:,}"
                yield _Line((title, length, OURS, entry.sampler), ours=_numbers(entry.scores), is_system=True)


def _numbers(scores: Scores) -> dict[str, float | None]:
    found = {name: scores.metrics[name].total.value for name in METRICS if name in scores.metrics}
    dice = scores.metrics.get("dice")
    return found | {organ: value.value for organ, value in (dice.per_organ if dice else {}).items()}


def _references(entries: Sequence[Entry]) -> Iterator[_Line]:
    """Floor and ceiling, each once for all that share it."""
    for kind in ("floor", "ceiling"):
        title = {"floor": "Floor: real, train and test", "ceiling": "Ceiling: real CT segmented"}[kind]
        seen = []
        for entry in entries:
            reference: Reference | None = getattr(entry.scores, kind, None)
            if reference and reference.values is not None and (values := of_reference(reference)) not in seen:
                seen.append(values)
                yield _Line((title, NOTHING, OURS, NOTHING), ours=values)


def of_reference(reference: Reference) -> dict[str, float | None]:
    """By column; an organ's Dice stands in the reference as ``dice/liver``."""
    return {name.removeprefix("dice/"): value.value for name, value in (reference.values or {}).items()}


def _table(lines: Sequence[_Line], paper: Paper, which: int) -> Table:
    metrics = {name: METRICS[name] for name in METRICS if name != KID or any(KID in line.ours for line in lines)}
    columns = metrics | {organ: (title, DICE_DIGITS, True) for organ, title in ORGANS.items()}
    rows = [(*line.names, *(line.cell(name, columns[name][1]) for name in columns)) for line in lines]
    systems = [place for place, line in enumerate(lines) if line.is_system]
    best: set[tuple[int, int]] = set()
    for column, (name, (_, digits, higher)) in enumerate(columns.items(), start=len(NAMES)):
        values = [lines[place].ours.get(name) for place in systems]
        best |= {(systems[n], column) for n in best_rows(values, digits, higher_is_better=higher)}
        printed = paper.tables[which].best(name, higher_is_better=higher)
        best |= {(n, column) for n, line in enumerate(lines) if any(line.paper is row for row in printed)}
    return Table(
        headers=(*NAMES, *(title for title, _, _ in columns.values())),
        rows=tuple(rows),
        best=frozenset(best),
        names=len(NAMES),
        quoted=frozenset(place for place, line in enumerate(lines) if line.paper),
    )


def notes(entries: Sequence[Entry], paper: Paper, table: Table) -> list[str]:
    """What a reader of the table must know: what is missing and why, and whether the numbers compare.

    Args:
        entries: All that was scored.
        paper: Whose rows the table quotes.
        table: Table 1 or 2.
    """
    scores = [entry.scores for entry in entries if entry.scores]
    said = ["Bold: the best of a column, among the paper's rows and among ours. Intervals stand under Scores."]
    if any(NOT_AT_HAND in row for row in table.rows):
        said.append(
            f"{NOT_AT_HAND}: the paper's number was not at hand. Copy ctsynth/report/paper_numbers.json, fill it "
            "in and give it to ctsynth report --paper FILE."
        )
    said += paper.remarks
    reasons = {(name, reason) for one in scores for name, reason in one.left_out.items() if name in METRICS}
    said += [f"{NOTHING} {METRICS[name][0].split()[0]}: {reason.rstrip('.')}." for name, reason in sorted(reasons)]
    said += dict.fromkeys(
        f"No {kind}: {reference.reason.rstrip('.')}."
        for one in scores
        for kind, reference in (("floor", one.floor), ("ceiling", one.ceiling))
        if reference.values is None
    )
    return said + [f"Not the paper's test: {fact}." for fact in _differences(scores, paper.setting)]


def _differences(scores: Sequence[Scores], setting: Mapping[str, Any]) -> Iterator[str]:
    """In what our test differs from the paper's."""
    sizes = sorted({one.settings["size"] for one in scores} - {setting["size"]})
    if sizes:
        side = setting["size"]
        yield f"slices of {', '.join(f'{n} x {n}' for n in sizes)} pixels, the paper's are of {side} x {side}"
    counts = sorted({(one.subjects, one.slices) for one in scores} - {(setting["subjects"], setting["slices"])})
    if counts:
        ours = ", ".join(f"{subjects:,} with {slices:,} slices" for subjects, slices in counts)
        yield f"test subjects: {ours}; the paper's: {setting['subjects']} with {setting['slices']:,}"
    segmenters = {
        str(one.metrics["dice"].settings.get("segmenter", "unknown")) for one in scores if "dice" in one.metrics
    }
    for segmenter in sorted(segmenters - {setting["segmenter"]}):
        yield f"DSC with {segmenter}, the paper's with {setting['segmenter']}"
