"""Drawn figures of a report: Dice of the organs as bars, and losses over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctsynth.figures import plain
from ctsynth.reporting.comparison import of_reference
from ctsynth.reporting.figures import INK
from ctsynth.reporting.inputs import Entry, latest
from ctsynth.reporting.paper import Paper
from ctsynth.scoring.scores import Result, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a3a", "#7f7f7f")
"""Colors of systems: Okabe and Ito's, which the color-blind tell apart, and two more."""

_BAR, _BETWEEN = 0.1, 0.14  # inches


@dataclass(frozen=True, slots=True)
class Bars:
    """What a figure of bars shows of one metric in %.

    Args:
        results: By system.
        organs: In the order of the label set, those that some system has a value of.
        ceiling: By organ: the segmenter on the real volumes; empty if it is unknown.
        printed: By system and organ, what the paper prints.
    """

    results: Mapping[str, Result]
    organs: tuple[str, ...]
    ceiling: Mapping[str, float | None]
    printed: Mapping[str, Mapping[str, float]]


def bars_of(entries: Sequence[Entry], paper: Paper) -> dict[str, Bars]:
    """Bars of each metric in % that has values by organ, by its name, for the methods' last checkpoints."""
    chosen = paper.ordered(latest(entries))
    names = dict.fromkeys(
        name
        for entry in chosen
        for name, result in (entry.scores.metrics if entry.scores else {}).items()
        if result.total.unit == "%" and result.per_organ
    )
    return {
        name: _bars([e for e in chosen if e.scores and name in e.scores.metrics], name, paper) for name in names
    }


def _bars(entries: Sequence[Entry], name: str, paper: Paper) -> Bars:
    scores = dict(zip(paper.titles(entries), [e.scores for e in entries if e.scores], strict=True))
    results = {title: one.metrics[name] for title, one in scores.items()}
    order = dict.fromkeys(organ for one in scores.values() for organ in one.labels.names.values())
    ceilings = [of_reference(one.ceiling) for one in scores.values()]
    of_paper = {row.method: {c: float(value) for c, value in row.values.items()} for row in paper.tables[2]}
    printed = {
        title: {} if entry.is_phantom else of_paper.get(entry.method, {})
        for title, entry in zip(paper.titles(entries), entries, strict=True)
    }
    return Bars(
        results=results,
        organs=tuple(organ for organ in order if any(organ in result.per_organ for result in results.values())),
        ceiling=ceilings[0] if name == "dice" and all(one == ceilings[0] for one in ceilings) else {},
        printed=printed if name == "dice" else {},
    )


def organ_bars(bars: Bars) -> Figure:
    """Bars from 0 to 100 %, an organ a group, a system a bar, with 95 % intervals.

    A diamond is what the paper prints of the system, an upright line the ceiling.
    """
    from matplotlib.figure import Figure

    group = _BAR * len(bars.results) + _BETWEEN
    legend = 0.2 * (len(bars.results) // 2 + 2)
    figure = Figure(figsize=(8, 0.7 + legend + group * len(bars.organs)), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 100), ylim=(group * len(bars.organs), 0))
    tops = [group * number + _BETWEEN / 2 for number in range(len(bars.organs))]
    for number, (system, result) in enumerate(bars.results.items()):
        places = [top + _BAR * (number + 0.5) for top in tops]
        color = COLORS[number % len(COLORS)]
        values = [result.per_organ.get(organ, Value(value=None)) for organ in bars.organs]
        axes.barh(places, [value.value or 0 for value in values], 0.86 * _BAR, label=plain(system), color=color)
        _mark(axes, values, places)
        printed = [
            (bars.printed.get(system, {}).get(organ), y) for organ, y in zip(bars.organs, places, strict=True)
        ]
        for value, place in printed:
            if value is not None:
                axes.plot(value, place, "D", markersize=4.5, markerfacecolor="none", markeredgecolor=INK)
    for organ, top in zip(bars.organs, tops, strict=True):
        ceiling = bars.ceiling.get(organ)
        if ceiling is not None:
            axes.plot([ceiling] * 2, [top, top + group - _BETWEEN], color=INK, linewidth=1.6)
    middles = [top + (group - _BETWEEN) / 2 for top in tops]
    axes.set_yticks(middles, [plain(organ.replace("_", " ")) for organ in bars.organs])
    axes.set_xlabel(f"{plain(next(iter(bars.results.values())).title)} (%)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper left", frameon=False, ncols=2)
    return figure


def _mark(axes: Axes, values: Sequence[Value], places: Sequence[float]) -> None:
    """The intervals."""
    for value, place in zip(values, places, strict=True):
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [place, place], color=INK, linewidth=0.8)
