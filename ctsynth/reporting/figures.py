"""The pictures of a report: rows of mask, real, synthetic and difference, and how they get onto the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from ctsynth import figures
from ctsynth.data.store import Store
from ctsynth.errors import DataError
from ctsynth.figures import RGB
from ctsynth.labels import LabelSet
from ctsynth.metrics.base import Pair
from ctsynth.reporting.markup import part
from ctsynth.scoring.pairs import read_pair
from ctsynth.scoring.scores import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADERS = ("mask", "real", "synthetic", "synthetic - real")

SUBJECTS = 3
SLICES_EACH = 2

LARGEST = 320
"""Width of a picture on the page, pixels: a screen shows no more of several side by side."""

GRID = 1600
"""Width of all pictures of a row together, pixels, at most: the page of many methods stays below 3 MB."""

MOST_LABELS = 64
"""A picture of more colors than this is no label map."""

INK = "#010203"


@dataclass(frozen=True, slots=True)
class Row:
    """One slice.

    Args:
        subject: Its name.
        index: Index of the slice, from 0.
        slices: How many the subject has.
        cells: A picture for each of ``HEADERS``.
        classes: Ids in its mask.
    """

    subject: str
    index: int
    slices: int
    cells: tuple[RGB, ...]
    classes: frozenset[int]

    @property
    def place(self) -> str:
        """Which slice it is, in words."""
        return f"{self.subject}, slice {self.index + 1} of {self.slices}"


def slice_rows(scores: Scores) -> list[Row]:
    """A few slices of a few subjects, spread evenly, each the one with the most classes around.

    Raises:
        DataError: The store or a volume is no longer where scores.json points, or has changed since.
    """
    names = list(scores.sources.synthetic)
    chosen = sorted({round(place) for place in np.linspace(0, len(names) - 1, min(SUBJECTS, len(names)))})
    pairs = scored_pairs(scores, [names[place] for place in chosen])
    return [_row(pair, index) for pair in pairs for index in _varied(pair.mask)]


def scored_pairs(scores: Scores, subjects: Sequence[str]) -> Iterator[Pair]:
    """The real and the synthetic slices of subjects that were scored.

    Raises:
        DataError: As ``slice_rows``.
    """
    store = Store.open(scores.sources.store)
    if store.digest != scores.settings.get("store_digest"):
        raise DataError(f"{store.root}: the store has changed since it was scored against")
    for name in subjects:
        if name not in store.subjects_by_name:
            raise DataError(f"{store.root}: there is no subject {name!r}, which was scored")
        yield read_pair(store.subjects_by_name[name], scores.sources.synthetic[name], store)


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


def data_uri(pixels: RGB, largest: int = LARGEST) -> str:
    """A picture as PNG within its address, at most so many pixels wide."""
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if picture.width > largest:
        is_map = picture.getcolors(MOST_LABELS) is not None
        resample = Image.Resampling.NEAREST if is_map else Image.Resampling.BOX
        picture = picture.resize((largest, round(picture.height * largest / picture.width)), resample)
    if (pixels == pixels[..., :1]).all():
        picture = picture.convert("L")
    picture.save(buffer, format="PNG", optimize=True)
    return png_uri(buffer.getvalue())


def png_uri(content: bytes) -> str:
    """A PNG file within its address."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def picture_grid(headers: Sequence[str], rows: Sequence[tuple[str, Sequence[RGB], str]]) -> Markup:
    """Pictures in columns, in a box that scrolls on its own.

    Args:
        headers: Over the columns.
        rows: Name, a picture for each header, and a line below them.
    """
    largest = min(LARGEST, GRID // len(headers))
    shown = [
        (
            [
                (data_uri(pixels, largest), f"{header}: {name}")
                for header, pixels in zip(headers, pictures, strict=True)
            ],
            below,
        )
        for name, pictures, below in rows
    ]
    return part("scrolling", part("pictures", headers, shown))


def figure_svg(figure: Figure, label: str) -> Markup:
    """A matplotlib figure for a page, in the page's own text color.

    Args:
        figure: Drawn with ``INK`` for texts and lines.
        label: What it shows; keeps the ids of several figures on one page apart, too.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = svg.replace(INK, "currentColor")
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))


@contextmanager
def page_ink() -> Iterator[None]:
    """Figures made within are drawn in ``INK``, which a page replaces by its own color."""
    import matplotlib as mpl

    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = dict.fromkeys(names, INK)
    with mpl.rc_context(settings):
        yield
