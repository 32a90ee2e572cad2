"""Tables 1 and 2 of the paper as printed, from paper_numbers.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctsynth.files import read_json
from ctsynth.reporting.inputs import Entry
from ctsynth.reporting.tables import labelled

NUMBERS = Path(__file__).with_name("paper_numbers.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """One row as printed.

    Args:
        method: Its name here, ``ddpm-mask``.
        iterations: Training iterations; None where the paper gives epochs.
        trained: The same in words.
        values: By metric or organ, as printed and in the order of the columns.
    """

    method: str
    iterations: int | None
    trained: str
    values: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """What the paper prints.

    Args:
        title: Authors, year, title, number.
        methods: Titles by name here, in the paper's order.
        tables: The rows of Tables 1 and 2, by number, in the paper's order.
        remarks: What a reader of the rows must know: where the tables contradict each other.
        setting: Test setting: ``size``, ``subjects``, ``slices``, ``segmenter``.
    """

    title: str
    methods: Mapping[str, str]
    tables: Mapping[int, tuple[PaperRow, ...]]
    remarks: tuple[str, ...]
    setting: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics and organs in the order of the tables' columns."""
        return tuple(self.tables[2][0].values)

    def method(self, name: str) -> str:
        """The paper's title of a method; the name itself if the paper has no such method."""
        return self.methods.get(name, name)

    def ordered(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries by method in the paper's order, then others as they come."""
        methods = list(dict.fromkeys([*self.methods, *(entry.method for entry in entries)]))
        return sorted(entries, key=lambda entry: methods.index(entry.method))

    def titles(self, entries: Sequence[Entry]) -> list[str]:
        """The paper's title of each entry's method; the entry's own name where several are of one method."""
        counts = Counter(entry.method for entry in entries)
        titles = [labelled(self.method(entry.method), phantom=entry.is_phantom) for entry in entries]
        return [
            title if counts[entry.method] == 1 else entry.name
            for title, entry in zip(titles, entries, strict=True)
        ]


def load() -> Paper:
    """Reads the paper's numbers."""
    content = read_json(NUMBERS)
    return Paper(
        title=content["paper"],
        methods=content["methods"],
        tables={number: tuple(map(_row, content["tables"][str(number)])) for number in (1, 2)},
        remarks=tuple(content["remarks"]),
        setting=content["setting"],
    )


def _row(content: Mapping[str, Any]) -> PaperRow:
    iterations = content.get("iterations")
    trained = f"{iterations:,}" if iterations else f"{content['epochs']} epochs"
    return PaperRow(method=content["method"], iterations=iterations, trained=trained, values=content["values"])
