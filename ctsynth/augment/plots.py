"""The learning curve and the dose curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctsynth.augment.arms import ARMS
from ctsynth.augment.results import Results, Row
from ctsynth.augment.statistics import Contrast
from ctsynth.figures import plain
from ctsynth.reporting.figures import INK
from ctsynth.reporting.plots import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPREAD = 0.012
"""Between the points of different arms at one place, as a share of it, so that all intervals are seen."""


def learning_curve(results: Results) -> Figure:
    """Mean Dice of each arm over the number of real subjects, with 95 % intervals; the first dose."""
    first = results.plan.config.doses[0]
    arms = [name for name in dict.fromkeys(row.arm for row in results.rows) if dose_of(name) in (1, first)]
    figure, axes = _figure("real subjects", "Dice (%)")
    for place, arm in enumerate(arms):
        rows = [row for row in results.rows if row.arm == arm]
        xs = [row.subjects * (1 + _SPREAD * (place - len(arms) / 2)) for row in rows]
        _line(axes, xs, [row.dice for row in rows], plain(arm), COLORS[place % len(COLORS)], dashed=arm == "R")
    axes.set_xscale("log")
    counts = sorted({row.subjects for row in results.rows})
    axes.set_xlim(counts[0] / 1.25, counts[-1] * 1.25)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    figure.legend(loc="outside upper left", frameon=False, ncols=4)
    return figure


def dose_curve(results: Results) -> Figure | None:
    """Gain of each dosed arm over the number of others to each real subject; None where there is one dose."""
    doses = sorted(results.plan.config.doses)
    names = [arm.name for arm in ARMS.values() if arm.dosed]
    shown = [(name, fraction) for name in names for fraction in results.fractions]
    lines = {
        (name, fraction): [row for row in results.rows if _is_dose_of(row, name) and row.fraction == fraction]
        for name, fraction in shown
    }
    lines = {key: rows for key, rows in lines.items() if rows}
    if len(doses) < 2 or not lines:
        return None
    present = [name for name in names if any(key[0] == name for key in lines)]
    figure, grid = _panels(present)
    for axes, name in zip(grid, present, strict=True):
        own = {fraction: rows for (arm, fraction), rows in lines.items() if arm == name}
        for place, (fraction, rows) in enumerate(own.items()):
            ordered = sorted(rows, key=lambda row: dose_of(row.arm))
            xs = [dose_of(row.arm) * (1 + _SPREAD * (place - len(own) / 2)) for row in ordered]
            gains = [row.gain for row in ordered if row.gain]
            label = f"{100 * fraction:g} % ({ordered[0].subjects} subjects)"
            _line(axes, xs, gains, label, COLORS[place % len(COLORS)])
        axes.axhline(0, color=INK, linewidth=0.5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(doses, [str(dose) for dose in doses])
        axes.minorticks_off()
        axes.set_title(plain(name), fontsize="medium")
    figure.supxlabel("others to each real subject", fontsize="medium")
    grid[0].set_ylabel("gain (Dice points)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=3)
    return figure


def dose_of(arm: str) -> int:
    """The dose in the name of an arm."""
    return int(arm.rpartition(" x")[2]) if " x" in arm else 1


def _is_dose_of(row: Row, name: str) -> bool:
    return row.arm.partition(" x")[0] == name


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _plain_axes(axes)
    return figure, axes


def _panels(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    grid = list(figure.subplots(1, len(names), sharey=True, squeeze=False).ravel())
    for axes in grid:
        _plain_axes(axes)
    return figure, grid


def _plain_axes(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _line(
    axes: Axes, xs: Sequence[float], values: Sequence[Contrast], label: str, color: str, *, dashed: bool = False
) -> None:
    """Means and their intervals."""
    means = [value.estimate for value in values]
    axes.plot(xs, means, "o--" if dashed else "o-", color=color, label=label, markersize=4)
    for x, value in zip(xs, values, strict=True):
        axes.plot([x, x], [value.low, value.high], color=color, linewidth=0.9)
