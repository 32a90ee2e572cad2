"""The sections of the page, each a function of the content to HTML; an empty text is a section left out."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence

from ctsynth import figures
from ctsynth.errors import CTSynthError
from ctsynth.reporting.content import Content
from ctsynth.reporting.curves import curves
from ctsynth.reporting.figures import HEADERS, Row, data_uri, figure_svg, legend, page_ink, picture_grid
from ctsynth.reporting.plots import organ_bars
from ctsynth.reporting.runs import how, training
from ctsynth.reporting.tables import count, organ_table, remarks, score_table, subject_table
from ctsynth.scoring.scores import Scores, has_tissues

escape = html.escape

TISSUES_AND_BODY = (
    "One model, the same masks: from tissues, it is told where gas, fat, soft and dense tissue lie; from body, "
    "it is told where the patient is, and invents the rest."
)

NAMED = 3
"""More systems than these are counted, not listed."""


def _scores(content: Content) -> str:
    """The score table, and what a reader of it must know."""
    if not content.scores:
        return (
            "<p>Nothing here has been scored yet: draw volumes with <code>ctsynth sample</code> and compare them "
            "with <code>ctsynth score</code>.</p>"
        )
    parts = [score_table(content.scores).as_html()]
    said: dict[str, list[str]] = {}
    for name, one in content.scores.items():
        for words in _format_remarks(one):
            said.setdefault(words, []).append(name)
    lines = [words + _whose(names, len(content.scores)) for words, names in said.items()]
    parts.append(f'<div class="faint">{listed(lines)}</div>')
    parts.append(
        '<p class="faint">Intervals are 95 % bootstrap intervals over subjects. Slices are mostly air, which '
        "flatters PSNR and SSIM: the values in the body leave it out.</p>"
    )
    return "\n".join(parts)


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


def _left_out(content: Content) -> str:
    """The metrics that were not computed, and why."""
    scores = content.scores.values()
    reasons = [f"{name}: {reason}" for one in scores for name, reason in one.left_out.items()]
    reasons += [
        f"{kind}: {reference.reason}"
        for one in scores
        for kind, reference in (("floor", one.floor), ("ceiling", one.ceiling))
        if reference.values is None
    ]
    return listed(list(dict.fromkeys(reasons)))


def _paper(content: Content) -> str:
    """Tables 1 and 2: the paper's rows beside ours."""
    titles = {
        "Table 1": "Iterations and conditioners",
        "Table 2": "Methods, each at its last checkpoint",
    }
    parts = []
    for name, table in content.tables.items():
        parts += [f"<h3>{name}. {titles[name]}</h3>", table.as_html()]
    if parts:
        parts.insert(
            0, f'<p class="faint">The paper: {escape(content.paper.title)}. Its rows are set in gray.</p>'
        )
        parts.append(f'<div class="faint">{listed(content.notes)}</div>')
    return "\n".join(parts)


def _figures(content: Content) -> str:
    """Figures 3 and 4: our pictures in the paper's order and colors."""
    titles = {
        "Figure 3": "Mask, slices drawn after more and more iterations, real",
        "Figure 4": "Mask, the slice of each method, real",
    }
    told = {one.told_tissues for one in content.scores.values() if has_tissues(one.provenance)}
    parts = [f"<p>{TISSUES_AND_BODY}</p>"] if len(told) == 2 else []
    for name, grid in content.grids.items():
        rows = [(row, cells, row) for row, cells in zip(grid.names, grid.cells, strict=True)]
        labels = next(one.labels for one in content.scores.values())
        parts += [f"<h3>{name}. {titles[name]}</h3>", picture_grid(grid.headers, rows)]
        parts.append(_legend(legend(grid.rows, labels)))
    return "\n".join(parts)


def _slices(content: Content) -> str:
    """Mask, real, synthetic and their difference, for a few slices of each method's last checkpoint."""
    parts = []
    for name, one in content.latest.items():
        rows = content.pictures[name]
        if isinstance(rows, CTSynthError):
            body = f"<p>No pictures: {escape(rows.message)}.</p>"
        else:
            lines = [(row.place, row.cells, " · ".join([row.place, *_values(row, one)])) for row in rows]
            body = "\n".join([picture_grid(HEADERS, lines), _legend(legend(rows, one.labels)), _scale()])
        parts.append(_folded(name, body, is_open=len(content.latest) == 1))
    return "\n".join(parts)


def _values(row: Row, scores: Scores) -> list[str]:
    """The scores of one slice, for the metrics that have such."""
    found = []
    for result in scores.metrics.values():
        values = result.per_slice.get(row.subject, [])
        value = values[row.index] if row.index < len(values) else None
        if value is not None:
            found.append(f"{result.title} {value:.{result.digits}f} {result.total.unit}".rstrip())
    return found


def _legend(colors: Mapping[str, str]) -> str:
    items = [
        f'<li><i class="swatch" style="background:{color}"></i>{escape(name)}</li>'
        for name, color in colors.items()
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _scale() -> str:
    limit = f"{figures.DIFFERENCE_HU:g}"
    bar = data_uri(figures.difference_scale())
    return (
        f'<div class="scale"><span>-{limit} HU</span><img src="{bar}" alt="blue over black to orange">'
        f'<span>+{limit} HU</span><span class="faint">synthetic minus real; black is equal</span></div>'
    )


def _organs(content: Content) -> str:
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
        parts.append(
            f'<figure><div class="scroll" tabindex="0">{svg}</div><figcaption>{caption}</figcaption></figure>'
        )
    for name, one in content.latest.items():
        marks = {organ.replace("_", " "): one.labels.colors[n] for n, organ in one.labels.names.items()}
        for result in one.metrics.values():
            if result.per_organ:
                unit = f", {result.total.unit}" if result.total.unit else ""
                table = organ_table(result, one.subjects).as_html(marks)
                parts.append(_folded(f"{name}: {result.title}{unit}", table, is_open=len(content.latest) == 1))
    return "\n".join(parts)


def _subjects(content: Content) -> str:
    """Every subject's scores, folded away."""
    return "\n".join(
        _folded(f"{name}: {count(one.subjects, 'subjects')}", subject_table(one).as_html())
        for name, one in content.scores.items()
    )


def _folded(summary: str, body: str, *, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"


def listed(items: Sequence[str]) -> str:
    """A list of lines of text; nothing if there are none."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


SECTIONS: tuple[tuple[str, Callable[[Content], str]], ...] = (
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
