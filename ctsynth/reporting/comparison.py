"""The paper's Tables 1 and 2 with its rows as printed beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctsynth.labels import AMOS22
from ctsynth.reporting.inputs import Entry, caveat, latest
from ctsynth.reporting.paper import Paper, PaperRow
from ctsynth.reporting.table import NOTHING, Table, best_rows
from ctsynth.reporting.tables import number
from ctsynth.scoring.scores import Reference, Scores

OURS, PHANTOMS, PAPERS = "ctsynth", "ctsynth, phantoms", "paper"

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
    """One row.

    Args:
        names: What stands in the columns of names.
        values: By column.
        printed: By column, as text, for a row of the paper's.
        group: Rows that it is compared with for the best; None for none.
    """

    names: tuple[str, ...]
    values: Mapping[str, float | None]
    printed: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None

    def cell(self, column: str, digits: int) -> str:
        """The number as text; the paper's as printed."""
        return self.printed.get(column) or number(self.values.get(column), digits)


def iteration_table(entries: Sequence[Entry], paper: Paper) -> Table:
    """Table 1: the paper's conditioners, and what was scored at several checkpoints, by iterations.

    Args:
        entries: All that was scored.
        paper: For its rows and titles.
    """
    rows = paper.tables[1]
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
        lines += _by_method(there, [row for row in rows if row.iterations == length], paper, f"{length}")
    return _table([*lines, *_references(chosen)], paper)


def method_table(entries: Sequence[Entry], paper: Paper) -> Table:
    """Table 2: each method at its last checkpoint.

    Args:
        entries: All that was scored.
        paper: For its rows and titles.
    """
    chosen = latest(entries)
    return _table([*_by_method(chosen, paper.tables[2], paper), *_references(chosen)], paper)


def _by_method(
    entries: Sequence[Entry], rows: Sequence[PaperRow], paper: Paper, group: str = ""
) -> Iterator[_Line]:
    """Each method's row in the paper, then ours; methods in the paper's order, then others."""
    for method in dict.fromkeys([*paper.methods, *(entry.method for entry in entries)]):
        title = paper.method(method)
        for row in rows:
            if row.method == method:
                values = {column: float(value) for column, value in row.values.items()}
                yield _Line((title, row.trained, PAPERS, NOTHING), values, row.values, PAPERS + group)
        for entry in entries:
            if entry.method == method and entry.scores:
                length = NOTHING if entry.iterations is None else f"{entry.iterations:,}"
                from_tissues = entry.scores.from_tissues
                source = (PHANTOMS if entry.is_phantom else OURS) + (", from tissues" if from_tissues else "")
                rivals = None if entry.is_phantom or from_tissues else OURS + group
                yield _Line((title, length, source, entry.sampler), _numbers(entry.scores), group=rivals)


def _numbers(scores: Scores) -> dict[str, float | None]:
    found = {name: scores.metrics[name].total.value for name in METRICS if name in scores.metrics}
    dice = scores.metrics.get("dice")
    return found | {organ: value.value for organ, value in (dice.per_organ if dice else {}).items()}


def _references(entries: Sequence[Entry]) -> Iterator[_Line]:
    """Floor and ceiling, each once for all that share it."""
    for kind in ("floor", "ceiling"):
        title = {"floor": "Floor: real, train and test", "ceiling": "Ceiling: real volumes segmented"}[kind]
        seen = []
        for entry in entries:
            reference: Reference | None = getattr(entry.scores, kind, None)
            values = of_reference(reference) if reference else {}
            if values not in seen and any(values.get(name) is not None for name in (*METRICS, *ORGANS)):
                seen.append(values)
                source = PHANTOMS if entry.is_phantom else OURS
                yield _Line((title, NOTHING, source, NOTHING), values)


def of_reference(reference: Reference) -> dict[str, float | None]:
    """By column; the reference calls an organ's Dice ``dice/liver``."""
    return {name.removeprefix("dice/"): value.value for name, value in (reference.values or {}).items()}


def _table(lines: Sequence[_Line], paper: Paper) -> Table:
    metrics = {name: METRICS[name] for name in METRICS if name != KID or any(KID in line.values for line in lines)}
    columns = metrics | {name: (ORGANS[name], DICE_DIGITS, True) for name in paper.columns if name in ORGANS}
    rows = [(*line.names, *(line.cell(name, columns[name][1]) for name in columns)) for line in lines]
    best: set[tuple[int, int]] = set()
    for group in {line.group for line in lines} - {None}:
        places = [place for place, line in enumerate(lines) if line.group == group]
        for column, (name, (_, digits, higher)) in enumerate(columns.items(), start=len(NAMES)):
            values = [lines[place].values.get(name) for place in places]
            best |= {(places[n], column) for n in best_rows(values, digits, higher_is_better=higher)}
    return Table(
        headers=(*NAMES, *(title for title, _, _ in columns.values())),
        rows=tuple(rows),
        best=frozenset(best),
        names=len(NAMES),
        quoted=frozenset(place for place, line in enumerate(lines) if line.printed),
    )


def notes(entries: Sequence[Entry], paper: Paper) -> list[str]:
    """What a reader of the tables must know: whether the numbers compare.

    Args:
        entries: All that was scored.
        paper: Whose rows the tables quote.
    """
    scores = [entry.scores for entry in entries if entry.scores]
    said = [
        "The paper's rows are complete and as printed; it prints no mean of the organs' DSC.",
        "Bold: the best of a column, among the paper's rows and among ours; in Table 1 among rows of equal "
        "iterations. Intervals stand under Scores.",
        *paper.remarks,
    ]
    if words := caveat(entries):
        said.insert(0, f"{words} Their rows are not compared with the paper's and never set in bold.")
    return said + [f"Not the paper's test: {fact}." for fact in _differences(scores, paper.setting)]


def reasons(entries: Sequence[Entry]) -> list[str]:
    """Why a column or a reference has no numbers.

    Args:
        entries: All that was scored.
    """
    scores = [entry.scores for entry in entries if entry.scores]
    found = {(name, reason) for one in scores for name, reason in one.left_out.items() if name in METRICS}
    said = [f"{NOTHING} {METRICS[name][0].split()[0]}: {reason.rstrip('.')}." for name, reason in sorted(found)]
    return said + list(
        dict.fromkeys(
            f"No {kind}: {reference.reason.rstrip('.')}."
            for one in scores
            for kind, reference in (("floor", one.floor), ("ceiling", one.ceiling))
            if reference.values is None
        )
    )


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
