"""The study's numbers as tables."""

from __future__ import annotations

import math
from collections.abc import Callable

from ctsynth.augment.results import Headline, Results, Row
from ctsynth.augment.statistics import Contrast
from ctsynth.reporting.table import NOTHING, Table

Cell = Callable[[Row], str]


def main_table(results: Results) -> Table:
    """Each arm at each fraction: Dice, its gain, what could have been found, real subjects saved, NSD."""
    columns: dict[str, Cell] = {
        "real": lambda row: str(row.subjects),
        "arm": lambda row: row.arm,
        "Dice": lambda row: level(row.dice),
        "gain": lambda row: gain(row.gain),
        "p": lambda row: p_value(row.gain.p if row.gain else math.nan),
        "detectable": lambda row: number(row.gain.detectable if row.gain else math.nan),
        "saved": saved,
        "NSD": lambda row: level(row.nsd),
        "gain (NSD)": lambda row: gain(row.nsd_gain),
    }
    return _table(results, columns)


def small_table(results: Results) -> Table | None:
    """The small organs apart; None where there is none."""
    if not results.small_organs:
        return None
    columns: dict[str, Cell] = {
        "real": lambda row: str(row.subjects),
        "arm": lambda row: row.arm,
        "Dice (small)": lambda row: level(row.small),
        "gain": lambda row: gain(row.small_gain),
        "p": lambda row: p_value(row.small_gain.p if row.small_gain else math.nan),
    }
    return _table(results, columns)


def organ_table(results: Results, kind: int) -> Table:
    """Means of each organ.

    Args:
        results: The study's.
        kind: 0 for Dice, 1 for NSD.
    """
    organs = list(results.rows[0].per_organ)
    rows = tuple(
        (str(row.subjects), row.arm, *(number(row.per_organ[organ][kind]) for organ in organs))
        for row in results.rows
    )
    return Table(("real", "arm", *(organ.replace("_", " ") for organ in organs)), rows, names=2)


def headline_table(results: Results) -> Table:
    """The two contrasts at each fraction, and what they say."""
    columns: dict[str, Callable[[Headline], str]] = {
        "real": lambda one: str(one.subjects),
        "contrast": lambda one: f"{one.arms[0]} - {one.arms[1]}",
        "difference": lambda one: gain(one.difference),
        "p": lambda one: p_value(one.difference.p),
        "p (Holm)": lambda one: p_value(one.adjusted),
        "detectable": lambda one: number(one.difference.detectable),
        "says": lambda one: one.verdict,
    }
    rows = tuple(tuple(cell(one) for cell in columns.values()) for one in results.headlines)
    return Table(tuple(columns), rows, names=2)


def _table(results: Results, columns: dict[str, Cell]) -> Table:
    rows = tuple(tuple(cell(row) for cell in columns.values()) for row in results.rows)
    return Table(tuple(columns), rows, names=2)


def level(value: Contrast | None) -> str:
    """A mean with its interval."""
    return _interval(value, "{:.1f}")


def gain(value: Contrast | None) -> str:
    """A difference with its interval."""
    return _interval(value, "{:+.1f}")


def _interval(value: Contrast | None, form: str) -> str:
    if value is None or math.isnan(value.estimate):
        return NOTHING
    if math.isnan(value.low):
        return form.format(value.estimate)
    return f"{form.format(value.estimate)} [{form.format(value.low)}, {form.format(value.high)}]"


def p_value(p: float) -> str:
    """Three digits; below what the bootstrap can tell, that."""
    return NOTHING if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float) -> str:
    """One digit after the point."""
    return NOTHING if math.isnan(value) else f"{value:.1f}"


def saved(row: Row) -> str:
    """How many real subjects an arm's gain is worth; with a sign where the learning curve ends before it."""
    if row.saved is None or row.gain is None or math.isnan(row.saved.subjects):
        return NOTHING
    sign = "" if not row.saved.beyond else ">" if row.gain.estimate > 0 else "<"
    return f"{sign}{row.saved.subjects:.0f}"


def answer(results: Results, width: int | None) -> str:
    """What the command prints: the tables, widest last, and what they say."""
    blocks = [main_table(results).as_text(width)]
    if small := small_table(results):
        blocks.append("Small organs: " + ", ".join(name.replace("_", " ") for name in results.small_organs))
        blocks.append(small.as_text(width))
    if results.headlines:
        blocks.append(headline_table(results).as_text(width))
    return "\n\n".join(blocks)
