"""metrics.jsonl: what a run has logged, a row every so many steps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, TypedDict

from ctsynth.errors import DataError
from ctsynth.files import parse_json
from ctsynth.schema import Range, parse

Row = dict[str, float]
"""``step``, and what was measured up to it."""

log = logging.getLogger(__name__)

_MOST = 256 << 20  # bytes that are read


class _Step(TypedDict):
    step: Annotated[int, Range(0, 999_999_999)]


def rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl; none where there is no such file.

    Raises:
        DataError: It cannot be read.
    """
    return [row for _, row in lines(path)]


def lines(path: Path) -> list[tuple[bytes, Row]]:
    """The lines that are rows, and what is in them.

    The last line may be incomplete, as a run may be writing it; a warning counts other lines that are no rows.

    Raises:
        DataError: It cannot be read.
    """
    if not path.exists():
        return []
    try:
        with path.open("rb") as file:
            texts = file.read(_MOST).splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot read it: {error.strerror}") from error
    found = [(text, row) for text in texts if (row := _row(text)) is not None]
    odd = len(texts) - len(found) - bool(texts and _row(texts[-1]) is None)
    if odd:
        log.warning("%s: %d of its %d lines are no rows: left out", path, odd, len(texts))
    return found


def _row(text: bytes) -> Row | None:
    try:
        content = parse_json(text, "")
        parse(_Step, content, "")
        parse(dict[str, Annotated[float, Range(-1e30, 1e30)]], content, "")
    except DataError:
        return None
    row: Row = content
    return row
