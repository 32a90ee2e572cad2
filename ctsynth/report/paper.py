"""Tables 1 and 2 of the paper as printed: paper_numbers.json, or the user's own copy of it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctsynth.errors import DataError
from ctsynth.files import read_json
from ctsynth.report.inputs import Entry

NUMBERS = Path(__file__).with_name("paper_numbers.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """One row as printed.

    Args:
        method: Its name here, ``ddpm-mask``.
        iterations: Of its training; None where the paper gives epochs.
        trained: The same in words.
        values: By metric or organ, as printed; None where the number is not at hand; a column that the table does
            not have is not here.
    """

    method: str
    iterations: int | None
    trained: str
    values: Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """One table.

    Args:
        rows: In its order.
        stated_best: By column the method that the paper's text calls the best.
    """

    rows: tuple[PaperRow, ...]
    stated_best: Mapping[str, str]

    def best(self, column: str, *, higher_is_better: bool) -> list[PaperRow]:
        """The rows that are best in a column: as the text says, else by the numbers, if all of them are here."""
        if column in self.stated_best:
            return [row for row in self.rows if row.method == self.stated_best[column]]
        numbers = [float(row.values[column] or "nan") for row in self.rows if column in row.values]
        if len(set(numbers)) < 2 or any(map(math.isnan, numbers)):
            return []
        wanted = max(numbers) if higher_is_better else min(numbers)
        return [row for row in self.rows if float(row.values.get(column) or "nan") == wanted]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """What the paper prints.

    Args:
        title: Authors, year, title, number.
        methods: Titles by name here, in the paper's order.
        tables: By number, 1 and 2.
        remarks: What a reader of the quoted rows must know: where its tables contradict each other.
        setting: Of its test: ``size``, ``subjects``, ``slices``, ``segmenter``.
        about: What null means in the file, and how to fill it in.
    """

    title: str
    methods: Mapping[str, str]
    tables: Mapping[int, PaperTable]
    remarks: tuple[str, ...]
    setting: Mapping[str, Any]
    about: str

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
        return [self.method(e.method) if counts[e.method] == 1 else e.name for e in entries]


def load(path: Path | None = None) -> Paper:
    """Reads the paper's numbers.

    Args:
        path: A copy of paper_numbers.json with more of them; the one of this package if None.

    Raises:
        DataError: The file is missing or of another form.
    """
    path = path or NUMBERS
    content = read_json(path)
    try:
        return Paper(
            title=content["paper"],
            methods=dict(content["methods"]),
            tables={number: _table(content["tables"][str(number)], path) for number in (1, 2)},
            remarks=tuple(content["remarks"]),
            setting=dict(content["setting"]),
            about=content["about"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: not the paper's numbers: {error!r}", hint=f"start from a copy of {NUMBERS}"
        ) from error


def _table(content: Mapping[str, Any], path: Path) -> PaperTable:
    return PaperTable(
        rows=tuple(_row(entry, path) for entry in content["rows"]),
        stated_best=dict(content["stated_best"]),
    )


def _row(content: Mapping[str, Any], path: Path) -> PaperRow:
    values = {name: None if value is None else str(value) for name, value in content["values"].items()}
    for name, value in values.items():
        if value is not None and not re.fullmatch(r"-?\d+(\.\d+)?", value):
            raise DataError(
                f"{path}: {name} of {content['method']} is {value!r}", hint='wanted: a number as "93.5", or null'
            )
    iterations = content.get("iterations")
    trained = f"{iterations:,}" if iterations else f"{content['epochs']} epochs"
    return PaperRow(method=content["method"], iterations=iterations, trained=trained, values=values)
