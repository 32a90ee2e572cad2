"""Pictures of slices and of training: label maps, CT, differences, sheets, loss curves. Imports no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ctsynth.files import atomic
from ctsynth.labels import LabelSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RGB = NDArray[np.uint8]
"""(H, W, 3) uint8."""

DIFFERENCE_HU = 100.0
"""A difference of this many HU, or more, is shown in the full color."""

_HIGHER = np.array([255, 122, 60], np.float32)
_LOWER = np.array([70, 150, 255], np.float32)

_CELL = 128
_GAP = 4
_BACKGROUND, _INK, _FAINT = "#14171c", "#eceff4", "#a9b1bf"

_NO_LOSS = ("step", "epoch", "lr", "images_per_s", "grad_norm")
_LINES = ("#3b82d6", "#d9772b", "#2f9e6e", "#b0529f", "#8a7d3a")
_MOST_LINES = len(_LINES)


def colorize(mask: NDArray[np.uint8], labels: LabelSet) -> RGB:
    """A label map (H, W) in the colors of its label set; background is black."""
    palette = np.zeros((256, 3), np.uint8)
    for number, color in labels.colors.items():
        palette[number] = tuple(bytes.fromhex(color[1:]))
    colored: RGB = palette[mask]
    return colored


def gray(unit: NDArray[np.floating[Any]]) -> RGB:
    """A slice (H, W) in [0, 1] as gray; values outside are clipped."""
    level = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)


def difference(
    real: NDArray[np.floating[Any]], synthetic: NDArray[np.floating[Any]], window_width_hu: float
) -> RGB:
    """Synthetic minus real in color: black is equal, orange is denser than real, blue less dense.

    Args:
        real: (H, W) in [0, 1].
        synthetic: (H, W) in [0, 1].
        window_width_hu: HU that one unit stands for.
    """
    share = (np.asarray(synthetic, np.float32) - real) * np.float32(window_width_hu / DIFFERENCE_HU)
    return _diverging(np.clip(share, -1, 1))


def difference_scale(width: int = 200, height: int = 12) -> RGB:
    """The color bar of ``difference``, from -DIFFERENCE_HU at the left to +DIFFERENCE_HU at the right."""
    return _diverging(np.tile(np.linspace(-1, 1, width, dtype=np.float32), (height, 1)))


def _diverging(share: NDArray[np.floating[Any]]) -> RGB:
    color = np.where(share[..., None] > 0, _HIGHER, _LOWER) * np.abs(share)[..., None]
    pixels: RGB = np.rint(color).astype(np.uint8)
    return pixels


def sheet(
    rows: Sequence[Sequence[RGB]],
    *,
    headers: Sequence[str],
    names: Sequence[str] = (),
    title: str = "",
    caption: str = "",
    scale: int | None = None,
) -> Image.Image:
    """Pictures in rows under headers, on a dark ground.

    Args:
        rows: Rows of pictures of one size, as many in a row as there are headers.
        headers: Over the columns.
        names: A line above each row; empty for none.
        title: A line above; empty for none.
        caption: Below, wrapped to the sheet's width; empty for none.
        scale: Whole factor of enlargement, pixel by pixel; None for the least that makes a cell 128 pixels wide.
    """
    height, width = rows[0][0].shape[:2]
    scale = scale or max(1, math.ceil(_CELL / width))
    height, width = height * scale, width * scale
    total = max(len(headers) * (width + _GAP) + _GAP, 240)
    size = max(12, min(18, width // 9))
    lines = [(line, _INK, size) for line in _wrap(title, total, size)]
    below = [(line, _FAINT, size - 1) for line in _wrap(caption, total, size - 1)]
    line_height = size + 6
    heads = [_wrap(header, width, size - 1) for header in headers]  # long names would run into one another
    top = (len(lines) + max(1, *map(len, heads))) * line_height
    named = line_height if names else 0
    bottom = top + len(rows) * (named + height + _GAP)
    canvas = Image.new("RGB", (total, bottom + len(below) * line_height + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    _write(draw, lines, 0, line_height)
    for column, head in enumerate(heads):
        middle = _GAP + column * (width + _GAP) + width // 2
        for above, line in enumerate(reversed(head)):
            y = top - line_height // 2 - above * line_height
            draw.text((middle, y), line, _FAINT, ImageFont.load_default(size - 1), anchor="mm")
    for number, row in enumerate(rows):
        y = top + number * (named + height + _GAP)
        if names:
            _write(draw, [(names[number], _INK, size)], y, line_height)
        for column, pixels in enumerate(row):
            picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (_GAP + column * (width + _GAP), y + named))
    _write(draw, below, bottom, line_height)
    return canvas


def _wrap(text: str, width: int, size: int) -> list[str]:
    return textwrap.wrap(text, max(16, int(width / (size * 0.52))))


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[tuple[str, str, int]], top: int, line_height: int) -> None:
    for number, (line, color, size) in enumerate(lines):
        middle = top + number * line_height + line_height // 2
        draw.text((2 * _GAP, middle), line, color, ImageFont.load_default(size), anchor="lm")


def loss_curve(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws the losses of a run over its steps, each as it was and smoothed; .png or .svg by the path's suffix.

    Args:
        rows: Rows of metrics.jsonl: ``step`` and the loss terms.
        path: Written whole or not at all.
    """
    figure = loss_figure(rows)
    with atomic(path) as partial:
        figure.savefig(partial, dpi=110)


def loss_figure(rows: Sequence[Mapping[str, float]]) -> Figure:
    """The figure of ``loss_curve``: ``loss`` and up to four terms, on a logarithmic axis where that helps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    names = loss_terms(rows)
    drawn: list[float] = []
    for name, color in zip(names, _LINES, strict=False):
        points = [(row["step"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
        steps, values = [step for step, _ in points], [value for _, value in points]
        drawn += values
        axes.plot(steps, values, color=color, alpha=0.3, linewidth=1)
        axes.plot(
            steps,
            smooth(values),
            color=color,
            linewidth=1.8,
            label=plain(name),
            marker="o" if len(values) == 1 else "",
        )
    if drawn and min(drawn) > 0 and max(drawn) > 10 * min(drawn):
        axes.set_yscale("log")
    if names:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "no rows yet", transform=axes.transAxes, ha="center")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def loss_terms(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The columns that are losses, ``loss`` first, at most five."""
    found = {name for row in rows for name in row if not (name.endswith(_NO_LOSS) or name.startswith("_"))}
    return sorted(found, key=lambda name: (name != "loss", name))[:_MOST_LINES]


def plain(text: str) -> str:
    """A text that matplotlib takes for no formula."""
    return text.replace("$", r"\$")


def smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """A running mean over about a twentieth of the values, over as many as there are at the ends."""
    kernel = np.ones(len(values) // 20 | 1)
    if not values:
        return np.zeros(0)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
