"""Scores of one checkpoint against what its samplers take: evaluations, and seconds a slice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from ctsynth.figures import plain
from ctsynth.files import atomic
from ctsynth.outputs import refuse_foreign
from ctsynth.reporting.plots import COLORS
from ctsynth.reporting.tables import heading
from ctsynth.sampling.record import PLACES
from ctsynth.scoring.scores import Result, Scores, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SECONDS = "seconds_per_slice"
"""The column of times in the scores of a sweep."""

Sweep = Mapping[tuple[str, int], Scores]
"""Scores of one checkpoint by sampler and steps."""

Cost = Literal["evaluations", "seconds"]

_COLUMNS = 3
_ARROWS = {True: "↑", False: "↓", None: ""}
_MADE_BY = {"Software": "ctsynth score --sweep"}


def timing(seconds: float, settings: Mapping[str, object]) -> Result:
    """The column of times: seconds a slice, and what they depend on."""
    value = Value(value=seconds, n=1, unit="s")
    return Result(
        title="Time a slice", total=value, digits=4, higher_is_better=False, counted="batches", settings=settings
    )


def refuse_other_plot(path: Path) -> None:
    """Refuses a file that is no plot of an earlier sweep.

    Raises:
        UsageError: There is one.
    """
    refuse_foreign(path, _is_sweep, "the plot of a sweep")


def _is_sweep(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == _MADE_BY["Software"]
    except OSError:
        return False


def save_plot(scores: Sweep, path: Path, cost: Cost = "seconds") -> None:
    """Writes the figure of a sweep as PNG, which replaces nothing but an earlier one."""
    refuse_other_plot(path)
    with atomic(path) as partial:
        sweep_figure(scores, cost).savefig(partial, dpi=110, metadata=_MADE_BY)


def find_sweeps(scores: Iterable[Scores]) -> list[Sweep]:
    """Scores that differ in sampler and steps alone, where there are several."""
    found: dict[str, dict[tuple[str, int], Scores]] = {}
    for one in scores:
        sampler = one.provenance.get("sampler")
        if sampler:
            shared = {key: value for key, value in one.provenance.items() if key not in ("sampler", *PLACES)}
            others = {key: value for key, value in sampler.items() if key not in ("name", "steps")}
            key = json.dumps([shared, others, one.split, one.subjects, one.slices], sort_keys=True)
            found.setdefault(key, {}).setdefault((sampler["name"], sampler["steps"]), one)
    return [dict(sorted(sweep.items())) for sweep in found.values() if len(sweep) > 1]


def is_timed(scores: Sweep) -> bool:
    """Whether several of the scores have the column of times."""
    return sum(SECONDS in one.metrics for one in scores.values()) > 1


def sweep_figure(scores: Sweep, cost: Cost) -> Figure:
    """Each score over evaluations or seconds a slice: a line a sampler, a point a number of steps.

    Args:
        scores: By sampler and steps; for seconds those with the column of times are shown.
        cost: Which of the two.
    """
    from matplotlib.figure import Figure

    shown = {name: result for one in scores.values() for name, result in one.metrics.items() if name != SECONDS}
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(9, 0.5 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, (name, result) in zip(grid, shown.items(), strict=False):
        _panel(axes, name, scores, cost)
        axes.set_title(f"{plain(heading(result))} {_ARROWS[result.higher_is_better]}", fontsize="medium")
    for axes in grid[len(shown) :]:
        axes.remove()
    words = {"evaluations": "network evaluations a slice", "seconds": "seconds a slice (numbers: evaluations)"}
    figure.supxlabel(words[cost], fontsize="medium")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=4)
    return figure


def _panel(axes: Axes, name: str, scores: Sweep, cost: Cost) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for color, sampler in zip(COLORS, dict.fromkeys(sampler for sampler, _ in scores), strict=False):
        values = {
            steps: (_cost(one, steps, cost), one.metrics[name].total.value)
            for (own, steps), one in scores.items()
            if own == sampler and name in one.metrics
        }
        points = [(x, y, steps) for steps, (x, y) in sorted(values.items()) if x is not None and y is not None]
        axes.plot(
            [x for x, *_ in points], [y for _, y, _ in points], "o-", color=color, label=sampler, markersize=4
        )
        for x, y, steps in points if cost == "seconds" else ():
            axes.annotate(str(steps), (x, y), (3, 3), textcoords="offset points", fontsize="small", color=color)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _cost(one: Scores, steps: int, cost: Cost) -> float | None:
    if cost == "evaluations":
        return steps
    return one.metrics[SECONDS].total.value if SECONDS in one.metrics else None
