"""The report: one HTML page that needs nothing else, and its tables and figures as files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from ctsynth import __version__, figures, history
from ctsynth.errors import UsageError
from ctsynth.files import atomic, write_text
from ctsynth.reporting import comparison, paper
from ctsynth.reporting.blind import write_reading
from ctsynth.reporting.content import Content
from ctsynth.reporting.escape import one_line
from ctsynth.reporting.figures import slice_sheet
from ctsynth.reporting.folder import replaced
from ctsynth.reporting.inputs import caveat, find_entries
from ctsynth.reporting.markup import page
from ctsynth.reporting.plots import organ_bars
from ctsynth.reporting.sections import SECTIONS
from ctsynth.reporting.style import CSS
from ctsynth.reporting.sweep import is_timed, save_plot
from ctsynth.reporting.tables import render
from ctsynth.reporting.viewer import PAGE as VIEWER
from ctsynth.reporting.viewer import write_viewer

SCORE_FILES = {"scores.csv": "csv", "scores.md": "markdown", "scores.tex": "latex"}


def build_report(
    inputs: Sequence[Path], out: Path, *, overwrite: bool = False, blind: int = 0, viewer: bool = False
) -> Path:
    """Writes the page, the tables and the figures.

    Args:
        inputs: scores.json files, folders that hold some, training runs.
        out: Folder for index.html, the tables as CSV, Markdown and LaTeX, and PNG files.
        overwrite: Also replace a report on other inputs, or one that was changed by hand.
        blind: Pictures of a blind reading, a page of its own with its answers in another file; none if 0.
        viewer: Also a page with three planes of a volume.

    Returns:
        The page.

    Raises:
        UsageError: There are no inputs, or a file that is not an earlier report's would be written over.
        DataError: One of them is neither scores nor a run.
        RunError: A file cannot be written.
    """
    if not inputs:
        raise UsageError("nothing to report on", hint="name scores.json files, sample folders or runs")
    content = Content(find_entries(inputs), paper.load())
    with replaced(out, inputs, overwrite=overwrite) as folder:
        _write_tables(content, folder)
        _write_figures(content, folder)
        write_text(folder / "index.html", _page(content, viewer=viewer))
        if viewer:
            write_viewer(content.latest, folder)
        if blind:
            write_reading(content.latest, blind, folder)
    return out / "index.html"


def _write_tables(content: Content, out: Path) -> None:
    for file, form in SCORE_FILES.items() if content.scores else ():
        write_text(out / file, render(content.scores, form) + "\n")
    for name, table in content.tables.items():
        said = [*content.notes, *comparison.reasons(content.entries)]
        notes, stem = [one_line(note) for note in said], content.stems[name]
        write_text(out / f"{stem}.csv", table.as_csv() + "\n")
        write_text(out / f"{stem}.md", "\n".join([table.as_markdown(), "", *(f"- {note}" for note in notes), ""]))
        write_text(out / f"{stem}.tex", "\n".join([*(f"% {note}" for note in notes), table.as_latex(), ""]))


def _write_figures(content: Content, out: Path) -> None:
    for name, grid in content.grids.items():
        _save(grid.sheet(name), out / f"{content.stems[name]}.png")
    for name, rows in content.pictures.items():
        if isinstance(rows, list) and rows and name in content.latest:
            _save(slice_sheet(rows, name), out / f"slices-{content.stems[name]}.png")
    for name, bars in content.bars.items():
        with atomic(out / f"organs-{content.stems[name]}.png") as partial:
            organ_bars(bars).savefig(partial, dpi=110)
    for name, sweep in content.sweeps.items():
        save_plot(sweep, out / f"sweep-{content.stems[name]}.png", "seconds" if is_timed(sweep) else "evaluations")
    for name, run in content.runs.items():
        if curve := history.rows(run / "metrics.jsonl"):
            figures.loss_curve(curve, out / f"loss-{content.stems[name]}.png")


def _save(picture: Image.Image, path: Path) -> None:
    with atomic(path) as partial:
        picture.save(partial, format="PNG")


def _page(content: Content, *, viewer: bool) -> str:
    built = ((title, section(content)) for title, section in SECTIONS)
    return page(
        "page.html",
        names=", ".join(dict.fromkeys(content.paper.method(entry.method) for entry in content.entries)),
        css=Markup(CSS),
        caveat=caveat(content.entries),
        sections=[(title, text) for title, text in built if text],
        viewer=VIEWER if viewer else "",
        version=__version__,
    )
