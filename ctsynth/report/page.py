"""The report: one HTML page that needs nothing else, and its tables and figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ctsynth import __version__, figures
from ctsynth.errors import CTSynthError, UsageError
from ctsynth.files import atomic, write_text
from ctsynth.report.figures import Row, slice_rows, slice_sheet
from ctsynth.report.inputs import Entry, find, metrics_rows
from ctsynth.report.sections import SECTIONS, Pictures, scored
from ctsynth.report.style import CSS
from ctsynth.report.tables import render
from ctsynth.scores import Scores

TABLES = {"scores.csv": "csv", "scores.md": "markdown", "scores.tex": "latex"}


def build_report(inputs: Sequence[Path], out: Path, *, note: str = "") -> Path:
    """Writes the page, the tables and the figures.

    Args:
        inputs: scores.json files, folders that hold one, training runs.
        out: Folder for index.html, scores.csv, scores.md, scores.tex and PNG files.
        note: A warning for the top of the page, such as what the data are.

    Returns:
        The page.

    Raises:
        UsageError: There are no inputs.
        DataError: One of them is neither scores nor a run.
        RunError: A file cannot be written.
    """
    if not inputs:
        raise UsageError("nothing to report on", hint="name scores.json files, sample folders or runs")
    entries = find(inputs)
    pictures = {name: _pictures(one) for name, one in scored(entries).items()}
    scores = scored(entries)
    for file, form in TABLES.items() if scores else ():
        write_text(out / file, render(scores, form) + "\n")
    _write_figures(entries, pictures, out)
    page = out / "index.html"
    write_text(page, _page(entries, pictures, note))
    return page


def _pictures(scores: Scores) -> list[Row] | CTSynthError:
    try:
        return slice_rows(scores)
    except CTSynthError as error:  # the numbers stand without the volumes
        return error


def _write_figures(entries: Sequence[Entry], pictures: Pictures, out: Path) -> None:
    for entry in entries:
        stem = re.sub(r"[^a-z0-9]+", "-", entry.name.lower()).strip("-")
        rows = pictures.get(entry.name)
        if isinstance(rows, list) and rows:
            with atomic(out / f"slices-{stem}.png") as partial:
                slice_sheet(rows, entry.name).save(partial, format="PNG")
        if entry.run and (curve := metrics_rows(entry.run)):
            figures.loss_curve(curve, out / f"loss-{stem}.png")


def _page(entries: Sequence[Entry], pictures: Pictures, note: str) -> str:
    names = ", ".join(entry.name for entry in entries)
    built = ((title, section(entries, pictures)) for title, section in SECTIONS)
    body = "\n".join(f"<section><h2>{title}</h2>\n{content}</section>" for title, content in built if content)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>Synthetic abdominal CT: {escape(names)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<h1>Synthetic abdominal CT: {escape(names)}</h1>
<p>CT slices drawn from label maps by a generative model, beside the real ones that the label maps belong to.</p>
<p class="warning">Synthetic research data: it shows no patient and is not for diagnosis. {escape(note)}</p>
{body}
<p class="faint">ctsynth {__version__}. This page needs no network; its tables and figures lie beside it as CSV,
Markdown, LaTeX and PNG.</p>
</main>
</body>
</html>
"""
