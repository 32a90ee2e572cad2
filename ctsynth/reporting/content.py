"""What a report is made of, gathered once for the page and for the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ctsynth.errors import CTSynthError, explain
from ctsynth.reporting import comparison, grids, plots
from ctsynth.reporting.escape import file_stems
from ctsynth.reporting.figures import Row, slice_rows
from ctsynth.reporting.grids import Grid
from ctsynth.reporting.inputs import Entry, latest
from ctsynth.reporting.paper import Paper
from ctsynth.reporting.plots import Bars
from ctsynth.reporting.sweep import Sweep, find_sweeps
from ctsynth.reporting.table import Table
from ctsynth.scoring.scores import Scores


@dataclass(frozen=True)
class Content:
    """Scores, pictures, runs, and the paper that they stand beside.

    Args:
        entries: The systems.
        paper: Its numbers.
    """

    entries: Sequence[Entry]
    paper: Paper

    @property
    def scores(self) -> dict[str, Scores]:
        """By the entry's name."""
        return {entry.name: entry.scores for entry in self.entries if entry.scores}

    @property
    def latest(self) -> dict[str, Scores]:
        """Scores of each method's last checkpoint."""
        return {entry.name: entry.scores for entry in self.paper.ordered(latest(self.entries)) if entry.scores}

    @property
    def runs(self) -> dict[str, Path]:
        """Each training run once: by the method if it was scored at several checkpoints, else by the entry."""
        named: dict[Path, tuple[str, Path]] = {}
        for entry in self.entries:
            if entry.run:
                is_study = sum(other.run == entry.run for other in self.entries) > 1
                named.setdefault(entry.run.resolve(), (entry.method if is_study else entry.name, entry.run))
        return dict(named.values())

    @cached_property
    def pictures(self) -> dict[str, list[Row] | CTSynthError]:
        """A few slices of each scored entry, or why there are none: the numbers stand without the volumes."""
        return {name: _pictures(one) for name, one in self.scores.items()}

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables 1 and 2; none if nothing was scored."""
        if not self.scores:
            return {}
        return {
            "Table 1": comparison.iteration_table(self.entries, self.paper),
            "Table 2": comparison.method_table(self.entries, self.paper),
        }

    @cached_property
    def notes(self) -> list[str]:
        """What a reader of Tables 1 and 2 must know; why numbers are missing stands elsewhere on the page."""
        return comparison.notes(self.entries, self.paper)

    @cached_property
    def grids(self) -> dict[str, Grid]:
        """Figures 3 and 4, as far as there are volumes for them."""
        found = {
            "Figure 3": grids.iteration_grid(self.entries, self.pictures, self.paper),
            "Figure 4": grids.method_grid(self.entries, self.pictures, self.paper),
        }
        return {name: grid for name, grid in found.items() if grid}

    @cached_property
    def sweeps(self) -> dict[str, Sweep]:
        """Checkpoints scored with several samplers or numbers of steps, by method and iterations."""
        named: dict[str, Sweep] = {}
        for sweep in find_sweeps(self.scores.values()):
            made = next(iter(sweep.values())).provenance
            title = (
                f"{self.paper.method(made.get('method', 'volumes'))}, {made.get('iterations') or 0:,} iterations"
            )
            named[title if title not in named else f"{title} ({len(named) + 1})"] = sweep
        return named

    @cached_property
    def stems(self) -> dict[str, str]:
        """File name of each table, figure, entry, run and metric."""
        return file_stems([*self.tables, *self.grids, *self.pictures, *self.runs, *self.bars, *self.sweeps])

    @cached_property
    def bars(self) -> dict[str, Bars]:
        """Bars of each metric in % that has values by organ, by its name."""
        return plots.bars_of(self.entries, self.paper)


def _pictures(scores: Scores) -> list[Row] | CTSynthError:
    try:
        return slice_rows(scores)
    except (CTSynthError, OSError, MemoryError) as error:
        return explain(error, "the volumes")
