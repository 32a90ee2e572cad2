"""What one metric found: a number over the set, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from ctsynth.schema import Range

Number = Annotated[float, Range(-1e12, 1e12)]
"""No score is larger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A number over the set.

    Args:
        value: None where there was nothing to average.
        low: Lower end of the 95 % bootstrap interval over subjects; None with a single subject.
        high: Its upper end.
        n: How many things were averaged.
        unit: ``dB``, ``HU``; empty for a plain number.
        parts: What the value is made of, in the same unit: the means of real and synthetic, of a difference.
    """

    value: Number | None
    low: Number | None = None
    high: Number | None = None
    n: Annotated[int, Range(0)] = 0
    unit: str = ""
    parts: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """What a metric found as a function of something, for a plot.

    Args:
        x: At which places.
        x_title: What these are, with their unit.
        lines: By name, ``real`` and ``synthetic``, a value at each place; None where there is none.
    """

    x: list[Number | None]
    x_title: str
    lines: Mapping[str, list[Number | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a metric found: one column of the score table.

    Args:
        title: The column's heading.
        total: Over the set.
        digits: Decimal places to show.
        higher_is_better: None where neither is, as with a ratio that should be 1.
        counted: What ``total.n`` counts: slices, subjects, organs.
        per_subject: None where a subject has nothing to average.
        per_slice: Values by subject, slice by slice; None for a slice left out.
        per_organ: By name in the label set.
        settings: All that the number depends on.
        notes: What a reader of the number must know: what was left out and how much.
        curve: What the number sums up; None with most.
        variants: Further columns of the same metric by the suffix of their names: ``body`` of ``psnr`` is
            ``psnr_body``. In scores.json they stand beside it.
    """

    title: str
    total: Value
    digits: Annotated[int, Range(0, 12)] = 3
    higher_is_better: bool | None = None
    counted: str = "slices"
    per_subject: Mapping[str, Number | None] = field(default_factory=dict)
    per_slice: Mapping[str, list[Number | None]] = field(default_factory=dict)
    per_organ: Mapping[str, Value] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curve: Curve | None = None
    variants: Mapping[str, Result] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The floor (real train against real test) or the ceiling (a segmenter on the real volumes).

    Args:
        values: By metric; None where it was not computed.
        reason: Why not; empty where it was.
    """

    values: Mapping[str, Value] | None
    reason: str = ""
