"""The pictures of a report: rows of mask, real, synthetic and difference, and loss curves as SVG."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctsynth import figures
from ctsynth.data.store import Store
from ctsynth.errors import DataError
from ctsynth.figures import RGB
from ctsynth.labels import LabelSet
from ctsynth.metrics._pairs import read_pair
from ctsynth.metrics.base import Pair
from ctsynth.scores import Scores

HEADERS = ("mask", "real", "synthetic", "synthetic - real")

SUBJECTS = 3
SLICES_EACH = 2

_INK = "#010203"


@dataclass(frozen=True, slots=True)
class Row:
    """One slice.

    Args:
        subject: Its name.
        index: Of the slice, from 0.
        slices: How many the subject has.
        cells: A picture for each of ``HEADERS``.
        classes: Ids in its mask.
    """

    subject: str
    index: int
    slices: int
    cells: tuple[RGB, ...]
    classes: frozenset[int]


def slice_rows(scores: Scores) -> list[Row]:
    """A few slices of a few subjects, spread evenly, each the one with the most classes around.

    Raises:
        DataError: The store or a volume is no longer where scores.json points, or has changed since.
    """
    store = Store.open(scores.sources.store)
    if store.digest != scores.settings.get("store_digest"):
        raise DataError(f"{store.root}: the store has changed since it was scored against")
    names = list(scores.sources.synthetic)
    chosen = sorted({round(place) for place in np.linspace(0, len(names) - 1, min(SUBJECTS, len(names)))})
    rows = []
    for name in (names[place] for place in chosen):
        subject = store.subjects_by_name[name]
        pair = read_pair(subject, scores.sources.synthetic[name], store)
        rows += [_row(pair, index) for index in _varied(pair.mask)]
    return rows


def _varied(mask: NDArray[np.uint8]) -> list[int]:
    """In each of ``SLICES_EACH`` parts of a volume the slice with the most classes."""
    parts = np.array_split(np.arange(len(mask)), min(SLICES_EACH, len(mask)))
    return [max(map(int, part), key=lambda index: len(np.unique(mask[index]))) for part in parts]


def _row(pair: Pair, index: int) -> Row:
    real, synthetic, mask = pair.real[index], pair.synthetic[index], pair.mask[index]
    cells = (
        figures.colorize(mask, pair.labels),
        figures.gray(real),
        figures.gray(synthetic),
        figures.difference(real, synthetic, pair.window.width),
    )
    return Row(pair.subject, index, len(pair.mask), cells, frozenset(map(int, np.unique(mask))) - {0})


def slice_sheet(rows: Sequence[Row], title: str) -> Image.Image:
    """The rows as one picture."""
    full = f"difference: orange is denser than real, blue less; full color at {figures.DIFFERENCE_HU:g} HU"
    return figures.sheet([row.cells for row in rows], headers=HEADERS, title=title, caption=full)


def legend(rows: Sequence[Row], labels: LabelSet) -> dict[str, str]:
    """The colors of the classes that the rows show, by name."""
    shown = set().union(*(row.classes for row in rows))
    return {name.replace("_", " "): labels.colors[n] for n, name in labels.names.items() if n in shown}


def data_uri(pixels: RGB) -> str:
    """A picture as PNG within its address."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return png_uri(buffer.getvalue())


def png_uri(content: bytes) -> str:
    """A PNG file within its address."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def loss_svg(rows: Sequence[Mapping[str, float]], salt: str) -> str:
    """The loss curve for a page, in the page's own text color.

    Args:
        rows: Of metrics.jsonl.
        salt: Keeps the ids of several curves on one page apart.
    """
    import matplotlib as mpl

    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt}
    settings |= dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
    )
    with mpl.rc_context(settings):
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figures.loss_figure(rows).savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    return svg.replace(_INK, "currentColor").replace("<svg ", '<svg role="img" aria-label="loss over steps" ', 1)
