"""A table of ready-made text, and how it looks as text, CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from ctsynth.reporting.escape import csv_cell, latex_cell, markdown_cell, one_line
from ctsynth.reporting.markup import part

NOTHING = "—"
"""Stands where there is no number."""

WIDE = 12
"""A table of more columns is set smaller on a page."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of ready-made text.

    Args:
        headers: Over the columns.
        rows: As many cells in each as there are headers.
        best: (row, column) of cells to set in bold.
        names: So many columns at the left name the row and are set to the left.
        quoted: Rows that are not ours, set apart.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    names: int = 1
    quoted: frozenset[int] = frozenset()

    def as_text(self, width: int | None = None) -> str:
        """Aligned columns, two blanks apart.

        Args:
            width: Columns that do not fit into so many characters come in blocks below, each with the names.
        """
        lines = [tuple(map(one_line, cells)) for cells in (self.headers, *self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headers))]

        def aligned(cells: Sequence[str], columns: Sequence[int]) -> str:
            padded = [cells[c].ljust(widths[c]) if c < self.names else cells[c].rjust(widths[c]) for c in columns]
            return "  ".join(padded).rstrip()

        def block(columns: Sequence[int]) -> str:
            header, *rows = (aligned(cells, columns) for cells in lines)
            return "\n".join([header, "  ".join("-" * widths[column] for column in columns), *rows])

        return "\n\n".join(map(block, self._blocks(widths, width)))

    def _blocks(self, widths: Sequence[int], width: int | None) -> list[list[int]]:
        """The columns of each block of text; a column that is too wide by itself has one of its own."""
        names = list(range(self.names))
        blocks = [names.copy()]
        for column in range(self.names, len(widths)):
            wanted = [*blocks[-1], column]
            is_full = width is not None and sum(widths[c] + 2 for c in wanted) - 2 > width
            blocks = [*blocks, [*names, column]] if is_full and blocks[-1] != names else [*blocks[:-1], wanted]
        return blocks

    def turned(self, corner: str) -> Table:
        """Rows as columns, for a table with one column of names.

        Args:
            corner: Header of the new names.
        """
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.headers)
        rows = tuple((header, *cells) for header, cells in zip(self.headers[1:], columns[1:], strict=True))
        best = frozenset((column - 1, row + 1) for row, column in self.best)
        return Table((corner, *columns[0]), rows, best)

    def blocks(self, most: int) -> list[Table]:
        """The table in tables of at most so many columns, each with the names."""
        done = []
        for first in range(self.names, len(self.headers), most):
            columns = [*range(self.names), *range(first, min(first + most, len(self.headers)))]
            done.append(
                replace(
                    self,
                    headers=tuple(self.headers[c] for c in columns),
                    rows=tuple(tuple(row[c] for c in columns) for row in self.rows),
                    best=frozenset((row, columns.index(c)) for row, c in self.best if c in columns),
                )
            )
        return done

    def as_csv(self) -> str:
        """A line a row; what is no number is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([csv_cell(header.rstrip(" ↓↑")) for header in self.headers])
        writer.writerows([csv_cell(_plain(cell)) for cell in row] for row in self.rows)
        return text.getvalue().rstrip("\n")

    def as_markdown(self) -> str:
        """A pipe table."""
        rule = [":--" if column < self.names else "--:" for column in range(len(self.headers))]
        rows = [
            [
                f"**{markdown_cell(cell)}**" if (r, c) in self.best else markdown_cell(cell)
                for c, cell in enumerate(row)
            ]
            for r, row in enumerate(self.rows)
        ]
        return "\n".join(
            "| " + " | ".join(cells) + " |" for cells in [map(markdown_cell, self.headers), rule, *rows]
        )

    def as_latex(self) -> str:
        """A tabular of the package booktabs."""

        def line(cells: Sequence[str], number: int = -1) -> str:
            marked = [
                rf"\textbf{{{latex_cell(cell)}}}" if (number, c) in self.best else latex_cell(cell)
                for c, cell in enumerate(cells)
            ]
            return " & ".join(marked) + r" \\"

        columns = "l" * self.names + "r" * (len(self.headers) - self.names)
        head = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(self.headers)]
        rows = [line(row, number) for number, row in enumerate(self.rows)]
        return "\n".join([*head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"])

    def as_html(self, marks: Mapping[str, str] | None = None) -> Markup:
        """A table in a box that scrolls on its own.

        Args:
            marks: A color to show before the row of this name.
        """
        headers = [(self._name_class(column), header) for column, header in enumerate(self.headers)]
        rows = [
            ("quoted" if number in self.quoted else "", (marks or {}).get(cells[0]), cells[0], self._cells(number))
            for number, cells in enumerate(self.rows)
        ]
        return part("scrolling", part("table", headers, rows, len(self.headers) > WIDE))

    def _cells(self, number: int) -> list[tuple[str, str, str]]:
        """Class, value and interval of all cells of a row but the first."""
        done = []
        for column, cell in enumerate(self.rows[number][1:], start=1):
            value, bracket, rest = cell.partition(" [")
            kind = "best" if (number, column) in self.best else self._name_class(column)
            done.append((kind, value, f"[{rest}" if bracket else ""))
        return done

    def _name_class(self, column: int) -> str:
        return "name" if 0 < column < self.names else ""


def best_rows(values: Sequence[float | None], digits: int, *, higher_is_better: bool | None) -> list[int]:
    """The rows of the best value as shown; none without a direction, or where all are equal."""
    shown = [None if value is None else round(value, digits) for value in values]
    known = {value for value in shown if value is not None}
    if higher_is_better is None or not known or len(set(shown)) == 1:
        return []
    wanted = max(known) if higher_is_better else min(known)
    return [row for row, value in enumerate(shown) if value == wanted]


def _plain(cell: str) -> str:
    """A cell for programs: without thousands separators, empty where there is no number."""
    return "" if cell == NOTHING else re.sub(r"(?<=\d),(?=\d{3})", "", cell)
