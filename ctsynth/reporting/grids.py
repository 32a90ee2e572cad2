"""The paper's Figures 3 and 4 from our volumes: the same slices by iterations, and by method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ctsynth import figures
from ctsynth.errors import CTSynthError
from ctsynth.figures import RGB
from ctsynth.reporting.figures import Row
from ctsynth.reporting.inputs import Entry, latest
from ctsynth.reporting.paper import Paper

Pictures = Mapping[str, list[Row] | CTSynthError]
"""Rows of each scored entry, or why there are none."""

Place = tuple[str, int]
"""Subject and slice."""

NOT_SCORED = 20
"""Gray where a method has nothing from that many iterations."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A figure of pictures in rows and columns.

    Args:
        headers: Over the columns: mask first, real or phantom last.
        names: Names of the rows.
        cells: A picture for each header in each row.
        rows: What the pictures are from, for the legend.
        systems: Names of the entries in the columns; of Figure 4 alone.
    """

    headers: tuple[str, ...]
    names: tuple[str, ...]
    cells: tuple[tuple[RGB, ...], ...]
    rows: tuple[Row, ...]
    systems: tuple[str, ...] = ()

    def sheet(self, title: str) -> Image.Image:
        """The figure as one picture."""
        return figures.sheet(self.cells, headers=self.headers, names=self.names, title=title)


def iteration_grid(entries: Sequence[Entry], pictures: Pictures, paper: Paper) -> Grid | None:
    """Figure 3: mask, the synthetic slice after more and more iterations, real; a method a row.

    Returns:
        None if no method was scored at more than one checkpoint.
    """
    shown = _of_one_store(entries, pictures)
    lengths = Counter(method for method, _ in {(entry.method, entry.iterations) for entry in shown})
    chosen = [entry for entry in shown if lengths[entry.method] > 1]
    places = _places(chosen, pictures)
    if not places:
        return None
    first = max(places.values(), key=lambda rows: len(rows[0].classes))  # the first of those with the most classes
    by_cell = {(e.method, e.iterations or 0): row for e, row in reversed(list(zip(chosen, first, strict=True)))}
    iterations = sorted({length for _, length in by_cell})
    mask, real, *_ = first[0].cells
    nothing = np.full_like(real, NOT_SCORED)
    methods = dict.fromkeys(entry.method for entry in paper.ordered(chosen))
    return Grid(
        headers=("mask", *(f"{length:,}" for length in iterations), _truth(chosen)),
        names=tuple(f"{paper.method(method)}: {first[0].place}" for method in methods),
        cells=tuple(
            (mask, *(by_cell[method, n].cells[2] if (method, n) in by_cell else nothing for n in iterations), real)
            for method in methods
        ),
        rows=(first[0],),
    )


def method_grid(entries: Sequence[Entry], pictures: Pictures, paper: Paper) -> Grid | None:
    """Figure 4: mask, the synthetic slice of each method's last checkpoint, real; a slice a row.

    Returns:
        None if there are no pictures.
    """
    chosen = paper.ordered(_of_one_store(latest(entries), pictures))
    places = _places(chosen, pictures)
    if not places:
        return None
    return Grid(
        headers=("mask", *paper.titles(chosen), _truth(chosen)),
        names=tuple(rows[0].place for rows in places.values()),
        cells=tuple(
            (rows[0].cells[0], *(row.cells[2] for row in rows), rows[0].cells[1]) for rows in places.values()
        ),
        rows=tuple(rows[0] for rows in places.values()),
        systems=tuple(entry.name for entry in chosen),
    )


def _of_one_store(entries: Sequence[Entry], pictures: Pictures) -> list[Entry]:
    """The entries with pictures, of the store that most of them are of: other slices cannot stand beside them."""
    shown = [entry for entry in entries if entry.scores and isinstance(pictures.get(entry.name), list)]
    stores = Counter(_store(entry) for entry in shown)
    return [entry for entry in shown if _store(entry) == max(stores, key=lambda store: stores[store])]


def _truth(entries: Sequence[Entry]) -> str:
    """What the slices of one store are."""
    return "phantom" if entries[0].is_phantom else "real"


def _store(entry: Entry) -> str:
    return str(entry.scores.settings.get("store_digest")) if entry.scores else ""


def _places(entries: Sequence[Entry], pictures: Pictures) -> dict[Place, list[Row]]:
    """The slices that every entry has a row of, and these rows in the order of the entries."""
    found: list[dict[Place, Row]] = []
    for entry in entries:
        rows = pictures[entry.name]
        assert isinstance(rows, list)
        found.append({(row.subject, row.index): row for row in rows})
    if not found:
        return {}
    return {place: [rows[place] for rows in found] for place in found[0] if all(place in rows for rows in found)}
