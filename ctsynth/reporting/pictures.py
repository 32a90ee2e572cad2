"""The first section of the page: slices of each method's last checkpoint, each slice once."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ctsynth import figures
from ctsynth.errors import CTSynthError
from ctsynth.reporting.content import Content
from ctsynth.reporting.figures import HEADERS, Row, data_uri, legend, picture_grid
from ctsynth.reporting.grids import Grid
from ctsynth.reporting.markup import part, stacked
from ctsynth.reporting.tables import number
from ctsynth.scoring.scores import Scores, has_tissues

TISSUES_AND_BODY = (
    "One model, the same masks. From tissues: the mask has gas, fat, soft and dense tissue. From body: the mask "
    "has one class for all of the patient outside the organs, and the model invents what is there."
)

METHODS = "Mask, the slice of each method"

ITERATIONS = "Mask, slices drawn after more and more iterations"

DIFFERENCES = 2
"""Differences of more methods than these are in the PNG files alone: the page stays small."""


def pictures(content: Content) -> Markup:
    """The methods side by side where there are several, the differences folded; then one slice by iterations."""
    shown = _abreast(content)
    parts = _methods(content, shown) if shown else []
    alone = [name for name in content.latest if name not in shown]
    for name in alone:
        body = _slices(content, name)
        parts.append(body if len(content.latest) == 1 else part("folded", name, body, not shown))
    if grid := content.grids.get("Figure 3"):
        rows = [(row, cells, row) for row, cells in zip(grid.names, grid.cells, strict=True)]
        parts.append(part("folded", _title(3, ITERATIONS, grid), picture_grid(grid.headers, rows), len(rows) == 1))
    return stacked(parts)


def _title(number: int, what: str, grid: Grid) -> str:
    return f"Figure {number}. {what}, {grid.headers[-1]}"


def _abreast(content: Content) -> tuple[str, ...]:
    """The systems that Figure 4 shows beside one another; none where there is but one."""
    grid = content.grids.get("Figure 4")
    return grid.systems if grid and len(grid.systems) > 1 else ()


def _methods(content: Content, shown: Sequence[str]) -> list[Markup]:
    """Figure 4: our pictures in the paper's order and colors, but for the slice that Figure 3 shows."""
    grid = content.grids["Figure 4"]
    with_tissues = {one.from_tissues for one in content.scores.values() if has_tissues(one.provenance)}
    parts = [part("paragraph", TISSUES_AND_BODY)] if len(with_tissues) == 2 else []
    by_iterations = content.grids.get("Figure 3")
    taken = {row.place for row in by_iterations.rows} if by_iterations and len(grid.names) > 1 else set()
    cells_of = {place: cells for place, cells in zip(grid.names, grid.cells, strict=True) if place not in taken}
    rows = [(place, cells, place) for place, cells in cells_of.items()]
    labels = content.latest[shown[0]].labels
    parts += [part("heading", _title(4, METHODS, grid)), picture_grid(grid.headers, rows)]
    parts.append(part("legend", legend(grid.rows, labels)))
    if len(shown) <= DIFFERENCES:
        parts.append(part("folded", "Synthetic minus real", _differences(content, shown, list(cells_of)), False))
    return parts


def _differences(content: Content, shown: Sequence[str], places: Sequence[str]) -> Markup:
    """The methods beside one another, with the scores of each slice."""
    by_place = {name: {row.place: row for row in _rows(content, name)} for name in shown}
    lines = []
    for place in places:
        rows = [by_place[name][place] for name in shown]
        values = [", ".join(_values(row, content.latest[name])) for name, row in zip(shown, rows, strict=True)]
        below = " · ".join([place, *(f"{name}: {said}" for name, said in zip(shown, values, strict=True) if said)])
        lines.append((place, [row.cells[-1] for row in rows], below))
    return stacked([picture_grid(shown, lines), _scale()])


def _rows(content: Content, name: str) -> list[Row]:
    rows = content.pictures[name]
    return [] if isinstance(rows, CTSynthError) else rows


def _slices(content: Content, name: str) -> Markup:
    """Mask, real, synthetic and their difference for a few slices, or why there are none."""
    one, rows = content.latest[name], content.pictures[name]
    if isinstance(rows, CTSynthError):
        return part("paragraph", f"No pictures: {rows.message}.")
    lines = [(row.place, row.cells, " · ".join([row.place, *_values(row, one)])) for row in rows]
    return stacked([picture_grid(HEADERS, lines), part("legend", legend(rows, one.labels)), _scale()])


def _values(row: Row, scores: Scores) -> list[str]:
    """The scores of one slice, for the metrics that have such."""
    found = []
    for result in scores.metrics.values():
        values = result.per_slice.get(row.subject, [])
        value = values[row.index] if row.index < len(values) else None
        if value is not None:
            found.append(f"{result.title} {number(value, result.digits)} {result.total.unit}".rstrip())
    return found


def _scale() -> Markup:
    """The colors of the difference."""
    return part("scale", f"{figures.DIFFERENCE_HU:g}", data_uri(figures.difference_scale()))
