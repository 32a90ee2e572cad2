"""The sections of the page on training, settings and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ctsynth import figures, history
from ctsynth.reporting.content import Content
from ctsynth.reporting.figures import figure_svg, page_ink, png_uri
from ctsynth.reporting.inputs import run_config
from ctsynth.reporting.markup import part, stacked


def training(content: Content) -> Markup:
    """Loss curve of each run; the newest sample sheet of one that was not scored, which has no other pictures."""
    parts = []
    for name, run in content.runs.items():
        rows = history.rows(run / "metrics.jsonl")
        parts.append(part("heading", name))
        if rows:
            with page_ink():
                svg = figure_svg(figures.loss_figure(rows), f"loss of {name} over steps")
            parts.append(part("figure", svg, _progress(rows)))
        if not content.scores and (sheets := sorted((run / "samples").glob("step_*.png"))):
            sheet = part("sheet", png_uri(sheets[-1].read_bytes()))
            parts.append(part("figure", sheet, "The run's newest sample sheet."))
    return stacked(parts)


def _progress(rows: Sequence[Mapping[str, float]]) -> str:
    last = rows[-1]
    words = [f"Thin: as logged; thick: running mean. Step {last['step']:,}"]
    if "loss" in last:
        words.append(f"loss {last['loss']:.4g}")
    if "images_per_s" in last:
        words.append(f"{last['images_per_s']:.3g} images/s")
    return ", ".join(words) + "."


def how(content: Content) -> Markup:
    """Settings, provenance and versions."""
    parts = []
    for name, run in content.runs.items():
        if config := run_config(run):
            kept = {key: value for key, value in config.items() if key not in ("labels", "phases")}
            parts.append(_folded(f"Training of {name}", {"": kept}))
    for name, one in content.scores.items():
        drawn = one.provenance or {"volumes": "no record beside them"}
        metrics = {result.title: result.settings for result in one.metrics.values() if result.settings}
        scored = {"label set": one.labels.name, **one.settings, **metrics}
        shown = {"How the volumes were drawn": drawn, "How they were scored": scored, "Versions": one.versions}
        parts.append(_folded(name, shown))
    return stacked(parts)


def _folded(title: str, parts: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Settings under headings of their own, folded away."""
    shown = [(head, [(key, _flat(value)) for key, value in content.items()]) for head, content in parts.items()]
    return part("folded", title, part("settings", shown), False)


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return "none" if value is None else str(value)
