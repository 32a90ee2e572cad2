"""The section of the page on samplers: scores of one checkpoint over what they take."""

from __future__ import annotations

from markupsafe import Markup

from ctsynth.reporting.content import Content
from ctsynth.reporting.figures import figure_svg, page_ink
from ctsynth.reporting.markup import part, stacked
from ctsynth.reporting.sweep import SECONDS, Cost, Sweep, is_timed, sweep_figure


def samplers(content: Content) -> Markup:
    """Scores over evaluations and over seconds, of each checkpoint with several samplers or numbers of steps."""
    parts = []
    for name, sweep in content.sweeps.items():
        parts.append(_figure(name, sweep, "evaluations", "one evaluation a step."))
        if is_timed(sweep):
            parts.append(_figure(name, sweep, "seconds", _measured(sweep)))
    return stacked(parts)


def _figure(name: str, sweep: Sweep, cost: Cost, note: str) -> Markup:
    with page_ink():
        svg = figure_svg(sweep_figure(sweep, cost), f"{name}: scores over {cost}")
    return part("figure", svg, f"{name}: {note}")


def _measured(sweep: Sweep) -> str:
    """What the times depend on."""
    timed = [one.metrics[SECONDS].settings for one in sweep.values() if SECONDS in one.metrics]
    found = {f"{how['device']}, {how['precision']}, {how['batch_size']} slices at once" for how in timed}
    return f"measured on {'; '.join(sorted(found))}."
