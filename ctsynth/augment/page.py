"""The page of a study: tables, learning curve, dose curve; the same as files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from ctsynth import __version__
from ctsynth.augment import tables
from ctsynth.augment.arms import ARMS
from ctsynth.augment.plots import dose_curve, learning_curve
from ctsynth.augment.results import SMALL_ML, Results
from ctsynth.augment.statistics import MARGIN
from ctsynth.files import atomic, write_text
from ctsynth.reporting.figures import figure_svg, page_ink
from ctsynth.reporting.folder import replaced
from ctsynth.reporting.markup import page, part, stacked
from ctsynth.reporting.style import CSS
from ctsynth.reporting.table import Table
from ctsynth.reporting.tables import phantom_caveat

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTES = (
    "Dice and NSD (at 2 mm) in points of 100, means over organs, test subjects, draws and seeds; 95 % intervals of"
    " the two-level bootstrap over subjects and draws.",
    "real: real subjects whose labels the arm knows. gain: over arm R with the same subjects, runs paired."
    " detectable: the smallest gain that this study finds with a probability of 80 %. saved: how many further real"
    " subjects the gain is worth on the learning curve of arm R; > where that ends before.",
)


def write_page(results: Results, out: Path) -> Path:
    """Writes index.html, tables as CSV, Markdown and LaTeX, and figures as PNG, in the place of an earlier page.

    Args:
        results: The study's.
        out: The study's folder.

    Returns:
        The page.

    Raises:
        UsageError: A file there is no earlier page's.
        RunError: A file cannot be written.
    """
    folder = out / "report"
    with replaced(folder, [out], overwrite=True) as staged:
        for stem, table in _tables(results).items():
            for suffix, text in (("csv", table.as_csv()), ("md", table.as_markdown()), ("tex", table.as_latex())):
                write_text(staged / f"{stem}.{suffix}", text + "\n")
        for stem, figure in _figures(results).items():
            with atomic(staged / f"{stem}.png") as partial:
                figure.savefig(partial, dpi=110)
        write_text(staged / "index.html", _page(results))
    return folder / "index.html"


def _tables(results: Results) -> dict[str, Table]:
    named = {
        "arms": tables.main_table(results),
        "contrasts": tables.headline_table(results) if results.headlines else None,
        "small-organs": tables.small_table(results),
        "organs-dice": tables.organ_table(results, 0),
        "organs-nsd": tables.organ_table(results, 1),
    }
    return {stem: table for stem, table in named.items() if table}


def _figures(results: Results) -> dict[str, Figure]:
    named = {"learning-curve": learning_curve(results), "dose-curve": dose_curve(results)}
    return {stem: figure for stem, figure in named.items() if figure}


def _page(results: Results) -> str:
    study, found = results.plan.config, _tables(results)
    with page_ink():
        figures = {stem: figure_svg(figure, stem.replace("-", " ")) for stem, figure in _figures(results).items()}
    return page(
        "augment.html",
        css=Markup(CSS),
        caveat=f"{phantom_caveat()}." if results.store.phantom else "",
        sections=[(title, text) for title, text in _sections(results, found, figures).items() if text],
        method=study.method,
        version=__version__,
    )


def _sections(results: Results, found: Mapping[str, Table], figures: Mapping[str, Markup]) -> dict[str, Markup]:
    contrasts, small = found.get("contrasts"), found.get("small-organs")
    curve = part(
        "figure", figures["learning-curve"], "Dice over the number of real subjects, first dose; bars: 95 %."
    )
    dose = figures.get("dose-curve")
    return {
        "The two questions": stacked([contrasts.as_html(), part("notes", _questions())])
        if contrasts
        else Markup(""),
        "Learning curve": curve,
        "Dose": part("figure", dose, "Gain over arm R, a line for each fraction; bars: 95 %.")
        if dose
        else Markup(""),
        "Arms": stacked([found["arms"].as_html(), part("notes", _NOTES)]),
        "Small organs": stacked([small.as_html(), part("note", _of_small(results))]) if small else Markup(""),
        "Organs": stacked(
            part("folded", title, found[stem].as_html(), False)
            for title, stem in (("Dice", "organs-dice"), ("NSD at 2 mm", "organs-nsd"))
        ),
        "How": _how(results),
    }


def _questions() -> list[str]:
    return [
        "R+D - R+Dr: is the synthetic texture worth more than the deformation alone? R+D - R+C: is it worth more"
        " than CutMix?",
        "better or worse: p of at most 0.05 after Holm's adjustment over both contrasts and all fractions. no"
        f" effect: the whole interval is within {MARGIN:g} points of 0. undecided: neither.",
    ]


def _of_small(results: Results) -> str:
    names = ", ".join(name.replace("_", " ") for name in results.small_organs)
    return f"Less than {SMALL_ML:g} ml in the median training subject: {names}."


def _how(results: Results) -> Markup:
    study, plan = results.plan.config, results.plan
    work = next(iter(results.records.values()))["work"]
    shown = dict.fromkeys(run.arm.name for run in plan.runs)
    lines = [
        f"All {len(plan.runs)} segmenters: {work['steps']:,} steps of {work['training']['batch_size']} slices,"
        " equal schedule, classical augmentation and network, as their own records say.",
        f"Generator: {study.method}, trained on "
        + ("the fraction alone" if study.generator == "own" else "all training subjects, labels of all known"),
        f"Draws of each fraction: {study.draws}; seeds: {study.seeds}. Training took"
        f" {sum(results.hours.values()):.2f} h on one {work['device']}, {results.generator_hours:.2f} of them for"
        " generators.",
        *plan.left_out,
    ]
    if shares := [share for cell in results.copies.values() for share in cell.values()]:
        lines.append(
            f"Copies: {min(shares):.1f} to {max(shares):.1f} % of a generator's slices are nearer to one of its"
            " training slices than 99 % of the real test slices are."
        )
    arms = part("settings", [("", [(name, ARMS[name].title) for name in shown])])
    return stacked([arms, part("listed", lines)])
