"""The sections of the page, each a function of the content to HTML; an empty one is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from ctsynth.reporting.content import Content
from ctsynth.reporting.curves import curves
from ctsynth.reporting.figures import figure_svg, page_ink
from ctsynth.reporting.markup import part, stacked
from ctsynth.reporting.pictures import pictures
from ctsynth.reporting.plots import organ_bars
from ctsynth.reporting.runs import how, training
from ctsynth.reporting.samplers import samplers
from ctsynth.reporting.table import NOTHING, Table
from ctsynth.reporting.tables import count, organ_table, remarks, score_table, subject_table
from ctsynth.scoring.scores import Scores

INTERVALS = (
    "Intervals are 95 % bootstrap intervals over subjects. Slices are mostly air, which flatters PSNR and SSIM: "
    "the values in the body leave it out."
)

SYSTEMS_ABREAST = 6
"""Columns of a table of scores: with intervals, more do not fit on a page."""

NAMED = 3
"""More systems than these are counted, not listed."""


def _scores(content: Content) -> Markup:
    """The score table, and what a reader of it must know."""
    if not content.scores:
        return part(
            "paragraph",
            "Nothing here has been scored yet: draw volumes with `ctsynth sample` and compare them with"
            " `ctsynth score`.",
        )
    table = score_table(content.scores)
    blocks = [table] if len(content.scores) == 1 else table.turned("metric").blocks(SYSTEMS_ABREAST)
    parts = [block.as_html() for block in blocks]
    said: dict[str, list[str]] = {}
    for name, one in content.scores.items():
        for words in _format_remarks(one):
            said.setdefault(words, []).append(name)
    lines = [words + _whose(names, len(content.scores)) for words, names in said.items()]
    parts.append(part("notes", lines))
    parts.append(part("note", INTERVALS))
    return stacked(parts)


def _format_remarks(scores: Scores) -> list[str]:
    """What was scored, and the notes of its metrics."""
    words = f"{count(scores.subjects, f'{scores.split} subjects')}, {count(scores.slices, 'slices')}"
    if scores.missing:
        words += f"; without a volume, and in no number: {', '.join(scores.missing)}"
    notes = [f"{result.title}: {note}" for result in scores.metrics.values() for note in result.notes]
    return [words, *notes, *remarks(scores)]


def _whose(names: Sequence[str], everyone: int) -> str:
    """Which systems a line is about, where it is not all of them."""
    if len(names) == everyone:
        return ""
    return f" ({', '.join(names) if len(names) <= NAMED else f'{len(names)} of {everyone} systems'})"


def _left_out(content: Content) -> Markup:
    """What was not computed, each reason once; what to do about it stands in scores.json."""
    by_reason: dict[str, list[str]] = {}
    for one in content.scores.values():
        reasons = {name: reason for name, reason in one.left_out.items() if name not in one.metrics}
        for kind, reference in (("floor", one.floor), ("ceiling", one.ceiling)):
            if reference.values is None:
                reasons[kind] = reference.reason
        for name, reason in reasons.items():
            by_reason.setdefault(_first_clause(reason), []).append(name)
    lines = [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in by_reason.items()]
    note = part("note", "What to do about each stands in scores.json, under left_out.")
    return stacked([part("listed", lines), note]) if lines else Markup("")


def _first_clause(reason: str) -> str:
    """What is missing, without the places where it was looked for and how to get it."""
    missing, *places = reason.split("; ")[0].split(" is in none of ")
    return f"{missing} is not on this machine" if places else missing.rstrip(".")


def _paper(content: Content) -> Markup:
    """Tables 1 and 2: the paper's rows beside ours."""
    titles = {
        "Table 1": "Iterations and conditioners",
        "Table 2": "Methods, each at its last checkpoint",
    }
    parts = []
    for name, table in content.tables.items():
        parts.append(part("folded", f"{name}. {titles[name]}", table.as_html(), _has_our_numbers(table)))
    if parts:
        parts.insert(0, part("note", f"The paper: {content.paper.title}. Its rows are set in gray."))
        parts.append(part("notes", content.notes))
    return stacked(parts)


def _has_our_numbers(table: Table) -> bool:
    """Whether a row that is not the paper's has a number in it."""
    ours = (row for number, row in enumerate(table.rows) if number not in table.quoted)
    return any(cell != NOTHING for row in ours for cell in row[table.names :])


def _organs(content: Content) -> Markup:
    """Each metric that has values by organ: bars where they are in %, and folded tables."""
    parts = []
    for bars in content.bars.values():
        title = next(iter(bars.results.values())).title
        with page_ink():
            svg = figure_svg(organ_bars(bars), f"{title} by organ")
        caption = "Thin lines: 95 % intervals."
        if any(value is not None for value in bars.ceiling.values()):
            caption += " Upright lines: the segmenter on the real volumes, the ceiling."
        if any(organ in bars.organs for system in bars.results for organ in bars.printed.get(system, ())):
            caption += " Diamonds: the paper's numbers."
        parts.append(part("figure", svg, caption))
    for name, one in content.latest.items():
        tables = _organ_tables(one)
        if len(content.latest) > 1 and tables:
            body = stacked(stacked([part("heading", title), table]) for title, table in tables.items())
            parts.append(part("folded", name, body, False))
            continue
        for title, table in tables.items():
            parts.append(part("folded", f"{name}: {title}", table, not parts))
    return stacked(parts)


def _organ_tables(scores: Scores) -> dict[str, Markup]:
    """A table of each metric that has values by organ, by its title and unit."""
    marks = {organ.replace("_", " "): scores.labels.colors[n] for n, organ in scores.labels.names.items()}
    return {
        ", ".join(filter(None, (result.title, result.total.unit))): organ_table(result, scores.subjects).as_html(
            marks
        )
        for result in scores.metrics.values()
        if result.per_organ
    }


def _subjects(content: Content) -> Markup:
    """Every subject's scores, folded away."""
    return stacked(
        part("folded", f"{name}: {count(one.subjects, 'subjects')}", subject_table(one).as_html(), False)
        for name, one in content.scores.items()
    )


SECTIONS: tuple[tuple[str, Callable[[Content], Markup]], ...] = (
    ("Pictures", pictures),
    ("Scores", _scores),
    ("Samplers", samplers),
    ("Organs", _organs),
    ("Curves", curves),
    ("Beside the paper", _paper),
    ("Training", training),
    ("Subjects", _subjects),
    ("Settings and versions", how),
    ("Left out", _left_out),
)
"""In the order of the page."""
