"""The sections of the page, each a function of the content to HTML; an empty one is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from ctsynth import figures
from ctsynth.errors import CTSynthError
from ctsynth.reporting.content import Content
from ctsynth.reporting.curves import curves
from ctsynth.reporting.figures import HEADERS, Row, data_uri, figure_svg, legend, page_ink, picture_grid
from ctsynth.reporting.markup import part, stacked
from ctsynth.reporting.plots import organ_bars
from ctsynth.reporting.runs import how, training
from ctsynth.reporting.tables import count, organ_table, remarks, score_table, subject_table
from ctsynth.scoring.scores import Scores, has_tissues

TISSUES_AND_BODY = (
    "One model, the same masks: from tissues, it is told where gas, fat, soft and dense tissue lie; from body, "
    "it is told where the patient is, and invents the rest."
)

INTERVALS = (
    "Intervals are 95 % bootstrap intervals over subjects. Slices are mostly air, which flatters PSNR and SSIM: "
    "the values in the body leave it out."
)

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
    parts = [score_table(content.scores).as_html()]
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
    """The metrics that were not computed, and why."""
    scores = content.scores.values()
    reasons = [f"{name}: {reason}" for one in scores for name, reason in one.left_out.items()]
    reasons += [
        f"{kind}: {reference.reason}"
        for one in scores
        for kind, reference in (("floor", one.floor), ("ceiling", one.ceiling))
        if reference.values is None
    ]
    return part("listed", list(dict.fromkeys(reasons)))


def _paper(content: Content) -> Markup:
    """Tables 1 and 2: the paper's rows beside ours."""
    titles = {
        "Table 1": "Iterations and conditioners",
        "Table 2": "Methods, each at its last checkpoint",
    }
    parts = []
    for name, table in content.tables.items():
        parts += [part("heading", f"{name}. {titles[name]}"), table.as_html()]
    if parts:
        parts.insert(0, part("note", f"The paper: {content.paper.title}. Its rows are set in gray."))
        parts.append(part("notes", content.notes))
    return stacked(parts)


def _figures(content: Content) -> Markup:
    """Figures 3 and 4: our pictures in the paper's order and colors."""
    titles = {
        "Figure 3": "Mask, slices drawn after more and more iterations, real",
        "Figure 4": "Mask, the slice of each method, real",
    }
    told = {one.told_tissues for one in content.scores.values() if has_tissues(one.provenance)}
    parts = [part("paragraph", TISSUES_AND_BODY)] if len(told) == 2 else []
    for name, grid in content.grids.items():
        rows = [(row, cells, row) for row, cells in zip(grid.names, grid.cells, strict=True)]
        labels = next(one.labels for one in content.scores.values())
        parts += [part("heading", f"{name}. {titles[name]}"), picture_grid(grid.headers, rows)]
        parts.append(part("legend", legend(grid.rows, labels)))
    return stacked(parts)


def _slices(content: Content) -> Markup:
    """Mask, real, synthetic and their difference, for a few slices of each method's last checkpoint."""
    parts = []
    for name, one in content.latest.items():
        rows = content.pictures[name]
        if isinstance(rows, CTSynthError):
            body = part("paragraph", f"No pictures: {rows.message}.")
        else:
            lines = [(row.place, row.cells, " · ".join([row.place, *_values(row, one)])) for row in rows]
            colors = part("legend", legend(rows, one.labels))
            body = stacked([picture_grid(HEADERS, lines), colors, _scale()])
        parts.append(part("folded", name, body, len(content.latest) == 1))
    return stacked(parts)


def _values(row: Row, scores: Scores) -> list[str]:
    """The scores of one slice, for the metrics that have such."""
    found = []
    for result in scores.metrics.values():
        values = result.per_slice.get(row.subject, [])
        value = values[row.index] if row.index < len(values) else None
        if value is not None:
            found.append(f"{result.title} {value:.{result.digits}f} {result.total.unit}".rstrip())
    return found


def _scale() -> Markup:
    """The colors of the difference."""
    return part("scale", f"{figures.DIFFERENCE_HU:g}", data_uri(figures.difference_scale()))


def _organs(content: Content) -> Markup:
    """Each metric that has values by organ: bars where they are in %, and tables."""
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
        marks = {organ.replace("_", " "): one.labels.colors[n] for n, organ in one.labels.names.items()}
        for result in one.metrics.values():
            if result.per_organ:
                unit = f", {result.total.unit}" if result.total.unit else ""
                table = organ_table(result, one.subjects).as_html(marks)
                parts.append(part("folded", f"{name}: {result.title}{unit}", table, len(content.latest) == 1))
    return stacked(parts)


def _subjects(content: Content) -> Markup:
    """Every subject's scores, folded away."""
    return stacked(
        part("folded", f"{name}: {count(one.subjects, 'subjects')}", subject_table(one).as_html(), False)
        for name, one in content.scores.items()
    )


SECTIONS: tuple[tuple[str, Callable[[Content], Markup]], ...] = (
    ("By iterations and method", _figures),
    ("Scores", _scores),
    ("Curves", curves),
    ("Left out", _left_out),
    ("Beside the paper", _paper),
    ("Slices", _slices),
    ("Organs", _organs),
    ("Training", training),
    ("Subjects", _subjects),
    ("Settings and versions", how),
)
"""In the order of the page."""
