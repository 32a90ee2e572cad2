"""The section of the page on scores that sum up a curve: the real volumes' and each system's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup

from ctsynth.figures import plain
from ctsynth.reporting.content import Content
from ctsynth.reporting.figures import INK, figure_svg, page_ink
from ctsynth.reporting.markup import part, stacked
from ctsynth.reporting.plots import COLORS
from ctsynth.scoring.result import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(content: Content) -> Markup:
    """A figure for each metric that has curves."""
    found: dict[str, dict[str, Curve]] = {}
    for system, scores in content.latest.items():
        for result in scores.metrics.values():
            if result.curve:
                found.setdefault(result.title, {})[system] = result.curve
    parts = []
    for title, by_system in found.items():
        with page_ink():
            svg = figure_svg(curve_figure(by_system), f"{title}: curves of real and synthetic volumes")
        parts.append(part("figure", svg, f"{title}: the real volumes' curve dashed."))
    return stacked(parts)


def curve_figure(by_system: Mapping[str, Curve]) -> Figure:
    """The curve of each system, and that of the real volumes, dashed.

    Args:
        by_system: The systems' curves; a line ``real`` that they share is drawn once.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    drawn: list[tuple[list[float], list[float]]] = []
    for number, (system, curve) in enumerate(by_system.items()):
        color = COLORS[number % len(COLORS)]
        for name, line in curve.lines.items():
            points = [(x, y) for x, y in zip(curve.x, line, strict=True) if x is not None and y is not None]
            xs, ys = [x for x, _ in points], [y for _, y in points]
            if name != "real":
                axes.plot(xs, ys, "o-", color=color, markersize=3.5, label=plain(system))
            elif (xs, ys) not in drawn:
                drawn.append((xs, ys))
                label = "real" if len(drawn) == 1 else f"real, {plain(system)}"
                axes.plot(xs, ys, "--", color=INK if len(drawn) == 1 else color, label=label)
    axes.set_xlabel(plain(next(iter(by_system.values())).x_title))
    axes.axhline(0, color=INK, linewidth=0.5)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", frameon=False, ncols=2)
    return figure
