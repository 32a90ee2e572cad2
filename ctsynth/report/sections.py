"""The sections of the page, each a function from the entries to HTML; an empty text is a section left out."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ctsynth import figures
from ctsynth.errors import CTSynthError
from ctsynth.report.figures import HEADERS, Row, data_uri, legend, loss_svg, png_uri
from ctsynth.report.inputs import Entry, metrics_rows, run_config
from ctsynth.report.tables import count, organ_table, score_table, subject_table
from ctsynth.scores import Scores

Pictures = Mapping[str, list[Row] | CTSynthError]
"""Of each scored entry: its rows, or why there are none."""

escape = html.escape


def scored(entries: Sequence[Entry]) -> dict[str, Scores]:
    """The scores there are, by entry."""
    return {entry.name: entry.scores for entry in entries if entry.scores}


def _scores(entries: Sequence[Entry], _: Pictures) -> str:
    """The score table, and what a reader of it must know."""
    scores = scored(entries)
    if not scores:
        return (
            "<p>Nothing here has been scored yet: draw volumes with <code>ctsynth sample</code> and compare them "
            "with <code>ctsynth score</code>.</p>"
        )
    parts = [score_table(scores).as_html()]
    for name, one in scores.items():
        counts = f"{count(one.subjects, f'{one.split} subjects')}, {count(one.slices, 'slices')}"
        if one.missing:
            counts += f"; without a volume, and in no number: {', '.join(one.missing)}"
        parts.append(f'<p class="faint">{escape(name)}: {escape(counts)}.</p>')
        notes = [f"{result.title}: {note}" for result in one.metrics.values() for note in result.notes]
        parts.append(_list(notes))
    parts.append(
        '<p class="faint">Intervals are 95 % bootstrap intervals over subjects. Slices are mostly air, which '
        "flatters PSNR and SSIM: the values in the body leave it out.</p>"
    )
    return "\n".join(parts)


def _left_out(entries: Sequence[Entry], _: Pictures) -> str:
    """The metrics that were not computed, and why."""
    reasons = [
        f"{name}: {reason}"
        for name, reason in dict(item for one in scored(entries).values() for item in one.left_out.items()).items()
    ]
    reasons += dict.fromkeys(
        f"{kind}: {reference.reason}"
        for one in scored(entries).values()
        for kind, reference in (("floor", one.floor), ("ceiling", one.ceiling))
        if reference.values is None
    )
    return _list(reasons)


def _slices(entries: Sequence[Entry], pictures: Pictures) -> str:
    """Mask, real, synthetic and their difference, for a few slices of each entry."""
    parts = []
    for name, one in scored(entries).items():
        rows = pictures[name]
        parts.append(f"<h3>{escape(name)}</h3>")
        if isinstance(rows, CTSynthError):
            parts.append(f"<p>No pictures: {escape(rows.message)}.</p>")
            continue
        parts += [_grid(rows, one), _legend(rows, one), _scale()]
    return "\n".join(parts)


def _grid(rows: Sequence[Row], scores: Scores) -> str:
    cells = [f"<span>{header}</span>" for header in HEADERS]
    for row in rows:
        place = f"{row.subject}, slice {row.index + 1} of {row.slices}"
        cells += [
            f'<img src="{data_uri(pixels)}" alt="{escape(f"{header}: {place}")}">'
            for header, pixels in zip(HEADERS, row.cells, strict=True)
        ]
        values = [
            f"{result.title} {value:.{result.digits}f} {result.total.unit}".rstrip()
            for result in scores.metrics.values()
            if (value := _of_slice(result.per_slice, row)) is not None
        ]
        cells.append(f'<span class="of">{escape(" · ".join([place, *values]))}</span>')
    return f'<div class="scroll" tabindex="0"><div class="slices">{"".join(cells)}</div></div>'


def _of_slice(per_slice: Mapping[str, list[float | None]], row: Row) -> float | None:
    values = per_slice.get(row.subject, [])
    return values[row.index] if row.index < len(values) else None


def _legend(rows: Sequence[Row], scores: Scores) -> str:
    items = [
        f'<li><i class="swatch" style="background:{color}"></i>{escape(name)}</li>'
        for name, color in legend(rows, scores.labels).items()
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _scale() -> str:
    limit = f"{figures.DIFFERENCE_HU:g}"
    bar = data_uri(figures.difference_scale())
    return (
        f'<div class="scale"><span>-{limit} HU</span><img src="{bar}" alt="blue over black to orange">'
        f'<span>+{limit} HU</span><span class="faint">synthetic minus real; black is equal</span></div>'
    )


def _organs(entries: Sequence[Entry], _: Pictures) -> str:
    """Each metric that has values by organ."""
    parts = []
    for name, one in scored(entries).items():
        marks = {organ.replace("_", " "): one.labels.colors[n] for n, organ in one.labels.names.items()}
        for result in one.metrics.values():
            if result.per_organ:
                unit = f", {result.total.unit}" if result.total.unit else ""
                parts.append(f"<h3>{escape(f'{name}: {result.title}{unit}')}</h3>")
                parts.append(organ_table(result, one.subjects).as_html(marks))
    return "\n".join(parts)


def _subjects(entries: Sequence[Entry], _: Pictures) -> str:
    """Every subject's scores, folded away."""
    parts = []
    for name, one in scored(entries).items():
        summary = f"<summary>{escape(name)}: {count(one.subjects, 'subjects')}</summary>"
        parts.append(f"<details>{summary}{subject_table(one).as_html()}</details>")
    return "\n".join(parts)


def _training(entries: Sequence[Entry], _: Pictures) -> str:
    """Loss curve and newest sample sheet of each run."""
    parts = []
    for number, entry in enumerate(entries):
        if entry.run is None:
            continue
        rows = metrics_rows(entry.run)
        parts.append(f"<h3>{escape(entry.name)}</h3>")
        if rows:
            parts.append(f'<figure><div class="scroll" tabindex="0">{loss_svg(rows, str(number))}</div>')
            parts.append(f"<figcaption>{escape(_progress(rows))}</figcaption></figure>")
        if sheets := sorted((entry.run / "samples").glob("step_*.png")):
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


def _how(entries: Sequence[Entry], _: Pictures) -> str:
    """Settings, provenance and versions."""
    parts = []
    for entry in entries:
        parts.append(f"<h3>{escape(entry.name)}</h3>")
        config = run_config(entry.run) if entry.run else {}
        if config:
            kept = {key: value for key, value in config.items() if key not in ("labels", "phases")}
            parts.append(f"<details><summary>training settings</summary>{_definitions(kept)}</details>")
        if entry.scores:
            one = entry.scores
            drawn = {"volumes": "no record beside them"} if not one.provenance else one.provenance
            metrics = {result.title: result.settings for result in one.metrics.values() if result.settings}
            for title, content in (
                ("how the volumes were drawn", drawn),
                ("how they were scored", {"label set": one.labels.name, **one.settings, **metrics}),
                ("versions", one.versions),
            ):
                parts.append(f"<details><summary>{title}</summary>{_definitions(content)}</details>")
    return "\n".join(parts)


def _definitions(content: Mapping[str, Any]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(_flat(v))}</dd>" for k, v in content.items())
        + "</dl>"
    )


def _flat(value: Any) -> str:  # noqa: ANN401  parsed JSON
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return "none" if value is None else str(value)


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


SECTIONS: tuple[tuple[str, Callable[[Sequence[Entry], Pictures], str]], ...] = (
    ("Scores", _scores),
    ("Left out", _left_out),
    ("Slices", _slices),
    ("Organs", _organs),
    ("Training", _training),
    ("Subjects", _subjects),
    ("Settings and versions", _how),
)
"""In the order of the page."""
