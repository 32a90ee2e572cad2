"""The sections of the page on training, settings and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ctsynth import figures, history
from ctsynth.reporting.content import Content
from ctsynth.reporting.figures import figure_svg, page_ink, png_uri
from ctsynth.reporting.inputs import run_config


def training(content: Content) -> str:
    """Loss curve and newest sample sheet of each run."""
    parts = []
    for name, run in content.runs.items():
        rows = history.rows(run / "metrics.jsonl")
        parts.append(f"<h3>{escape(name)}</h3>")
        if rows:
            with page_ink():
                svg = figure_svg(figures.loss_figure(rows), f"loss of {name} over steps")
            parts.append(f'<figure><div class="scroll" tabindex="0">{svg}</div>')
            parts.append(f"<figcaption>{escape(_progress(rows))}</figcaption></figure>")
        if sheets := sorted((run / "samples").glob("step_*.png")):
            sheet = f'<img class="sheet" src="{png_uri(sheets[-1].read_bytes())}" alt="newest sample sheet">'
            parts.append(f'<figure><div class="scroll" tabindex="0">{sheet}</div>')
            parts.append("<figcaption>The run's newest sample sheet.</figcaption></figure>")
    return "\n".join(parts)


def _progress(rows: Sequence[Mapping[str, float]]) -> str:
    last = rows[-1]
    words = [f"Thin: as logged; thick: running mean. Step {last['step']:,}"]
    if "loss" in last:
        words.append(f"loss {last['loss']:.4g}")
    if "images_per_s" in last:
        words.append(f"{last['images_per_s']:.3g} images/s")
    return ", ".join(words) + "."


def how(content: Content) -> str:
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
    return "\n".join(parts)


def _folded(title: str, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings under headings of their own, folded away."""
    body = []
    for heading, content in parts.items():
        entries = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(_flat(v))}</dd>" for k, v in content.items())
        body.append((f"<h3>{heading}</h3>" if heading else "") + f"<dl>{entries}</dl>")
    return f"<details><summary>{escape(title)}</summary>{''.join(body)}</details>"


def _flat(value: Any) -> str:  # noqa: ANN401  parsed JSON
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return "none" if value is None else str(value)
