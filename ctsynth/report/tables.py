"""Tables of scores as text, CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ctsynth.errors import UsageError
from ctsynth.scores import Result, Scores, Value

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of ready-made text; the first column names the row.

    Args:
        headers: Over the columns.
        rows: As many cells in each as there are headers.
        best: (row, column) of cells to set in bold.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()

    def as_text(self) -> str:
        """Aligned columns, two blanks apart."""
        lines = [self.headers, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headers))]

        def line(cells: Sequence[str]) -> str:
            padded = [cells[0].ljust(widths[0])]
            padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
            return "  ".join(padded).rstrip()

        return "\n".join([line(self.headers), "  ".join("-" * width for width in widths), *map(line, self.rows)])

    def as_markdown(self) -> str:
        """A pipe table."""
        rule = [":--", *("--:" for _ in self.headers[1:])]
        rows = [
            [f"**{cell}**" if (r, c) in self.best else cell for c, cell in enumerate(row)]
            for r, row in enumerate(self.rows)
        ]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in [self.headers, rule, *rows])

    def as_latex(self) -> str:
        """A tabular of the package booktabs."""

        def line(cells: Sequence[str], number: int = -1) -> str:
            marked = [
                rf"\textbf{{{_latex(cell)}}}" if (number, c) in self.best else _latex(cell)
                for c, cell in enumerate(cells)
            ]
            return " & ".join(marked) + r" \\"

        head = [rf"\begin{{tabular}}{{l{'r' * (len(self.headers) - 1)}}}", r"\toprule", line(self.headers)]
        rows = [line(row, number) for number, row in enumerate(self.rows)]
        return "\n".join([*head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"])

    def as_html(self, marks: Mapping[str, str] | None = None) -> str:
        """A table in a box that scrolls on its own.

        Args:
            marks: A color to show before the row of this name.
        """

        def row(number: int, cells: Sequence[str]) -> str:
            color = (marks or {}).get(cells[0])
            swatch = f'<i class="swatch" style="background:{color}"></i>' if color else ""
            rest = [
                f'<td class="best">{_html(cell)}</td>'
                if (number, column) in self.best
                else f"<td>{_html(cell)}</td>"
                for column, cell in enumerate(cells[1:], start=1)
            ]
            return f'<tr><th scope="row">{swatch}{html.escape(cells[0])}</th>{"".join(rest)}</tr>'

        head = "".join(f'<th scope="col">{html.escape(header)}</th>' for header in self.headers)
        body = "\n".join(row(number, cells) for number, cells in enumerate(self.rows))
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
        return f'<div class="scroll" tabindex="0">{table}</div>'


def number(value: float | None, digits: int) -> str:
    """A number with so many decimal places; a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def count(n: int, things: str) -> str:
    """So many things, in words: ``1 slice``, ``2 slices``."""
    return f"{n:,} {things.removesuffix('s') if n == 1 else things}"


def between(value: Value, digits: int, subjects: int) -> str:
    """An interval, or why there is none."""
    if value.low is None or value.high is None:
        return "one subject" if subjects == 1 else NOTHING
    return f"{value.low:.{digits}f} to {value.high:.{digits}f}"


def heading(result: Result) -> str:
    """A metric's title with its unit."""
    return f"{result.title} ({result.total.unit})" if result.total.unit else result.title


def score_table(scores: Mapping[str, Scores]) -> Table:
    """The scores of one system, a metric a row; or of several, a system a row.

    Args:
        scores: By the name of the system.
    """
    if len(scores) == 1:
        return _of_one(next(iter(scores.values())))
    names = list(dict.fromkeys(metric for one in scores.values() for metric in one.metrics))
    columns = {name: [one.metrics.get(name) for one in scores.values()] for name in names}
    headers = [heading(next(result for result in column if result)) for column in columns.values()]
    rows = [
        (system, *(_cell(columns[name][row], one.subjects) for name in names))
        for row, (system, one) in enumerate(scores.items())
    ]
    best = {(row, place) for place, name in enumerate(names, start=1) for row in _best(columns[name])}
    return Table(("system", *headers), tuple(rows), frozenset(best))


def _of_one(scores: Scores) -> Table:
    rows = [
        (
            heading(result),
            number(result.total.value, result.digits),
            between(result.total, result.digits, scores.subjects),
            count(result.total.n, result.counted),
        )
        for result in scores.metrics.values()
    ]
    return Table(("metric", "value", "95 % interval", "mean over"), tuple(rows))


def _cell(result: Result | None, subjects: int) -> str:
    if result is None or result.total.value is None:
        return NOTHING
    value = number(result.total.value, result.digits)
    return value if result.total.low is None else f"{value} [{between(result.total, result.digits, subjects)}]"


def _best(column: Sequence[Result | None]) -> list[int]:
    """The rows of the best value as shown; none for a metric without a direction, or where all are equal."""
    known = [result for result in column if result and result.total.value is not None]
    if not known or known[0].higher_is_better is None:
        return []
    choose = max if known[0].higher_is_better else min
    shown = [round(r.total.value, r.digits) if r and r.total.value is not None else None for r in column]
    wanted = choose(value for value in shown if value is not None)
    if all(value == wanted for value in shown):
        return []
    return [row for row, value in enumerate(shown) if value == wanted]


def organ_table(result: Result, subjects: int) -> Table:
    """A metric's values by organ: what the value is made of, the value, its interval, in how many subjects."""
    parts = list(dict.fromkeys(part for value in result.per_organ.values() for part in value.parts))
    what = "difference" if parts else result.title
    rows = [
        (
            organ.replace("_", " "),
            *(number(value.parts.get(part), result.digits) for part in parts),
            number(value.value, result.digits),
            between(value, result.digits, min(value.n, subjects)),
            str(value.n),
        )
        for organ, value in result.per_organ.items()
    ]
    return Table(("organ", *parts, what, "95 % interval", "subjects"), tuple(rows))


def subject_table(scores: Scores) -> Table:
    """Every subject's scores, for the metrics that have such."""
    columns = {name: result for name, result in scores.metrics.items() if result.per_subject}
    rows = [
        (subject, *(number(result.per_subject.get(subject), result.digits) for result in columns.values()))
        for subject in scores.sources.synthetic
    ]
    return Table(("subject", *map(heading, columns.values())), tuple(rows))


def as_csv(scores: Mapping[str, Scores]) -> str:
    """Every value of the set and of its organs, a line each, as precise as it was computed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("system", "metric", "organ", "value", "low", "high", "n", "counted", "unit"))
    for system, one in scores.items():
        for name, result in one.metrics.items():
            for organ, value in {"": result.total, **result.per_organ}.items():
                counted = "subjects" if organ else result.counted
                writer.writerow(
                    (system, name, organ, value.value, value.low, value.high, value.n, counted, value.unit)
                )
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Mapping[str, Scores]], str]] = {
    "table": lambda scores: score_table(scores).as_text(),
    "csv": as_csv,
    "markdown": lambda scores: score_table(scores).as_markdown(),
    "latex": lambda scores: score_table(scores).as_latex(),
}


def render(scores: Mapping[str, Scores], form: str) -> str:
    """The score table as ``table``, ``csv``, ``markdown`` or ``latex``, without a line end.

    Raises:
        UsageError: There is no such format.
    """
    if form not in FORMATS:
        raise UsageError(f"no format is called {form!r}", hint=f"there are: {', '.join(FORMATS)}")
    return FORMATS[form](scores)


def _html(cell: str) -> str:
    """A cell with its interval on a line of its own."""
    value, bracket, rest = html.escape(cell).partition(" [")
    return f"{value}<small>[{rest}</small>" if bracket else value


def _latex(text: str) -> str:
    for special in "&%$#_{}":
        text = text.replace(special, "\\" + special)
    return text
