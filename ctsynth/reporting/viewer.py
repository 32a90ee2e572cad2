"""A page on which one synthetic volume is looked at in three planes, beside its mask and the real CT."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.errors import UsageError
from ctsynth.files import write_text
from ctsynth.metrics.base import Pair
from ctsynth.reporting.figures import scored_pairs
from ctsynth.reporting.markup import page
from ctsynth.scoring.scores import Scores

PAGE = "viewer.html"


def write_viewer(systems: Mapping[str, Scores], folder: Path) -> None:
    """Writes the page, which needs neither network nor any other file.

    Args:
        systems: By name, the scores whose volumes can be shown; the first subject of the first is.
        folder: Where to.

    Raises:
        UsageError: Nothing was scored.
        DataError: A volume is no longer where scores.json points.
    """
    scored = [(name, one) for name, one in systems.items() if one.sources.synthetic]
    if not scored:
        raise UsageError(
            "the viewer shows a scored volume, and nothing here has been scored",
            hint="score volumes first, or leave out `viewer`",
        )
    name, scores = scored[0]
    (pair,) = scored_pairs(scores, list(scores.sources.synthetic)[:1])
    shown = {"synthetic": _hu(pair, pair.synthetic), "real": _hu(pair, pair.real)}
    content = page(
        "viewer.html",
        system=name,
        subject=pair.subject,
        real="phantom" if scores.phantom else "real CT",
        volume=_described(pair),
        packed={**{title: packed_hu(hu) for title, hu in shown.items()}, "mask": packed(pair.mask)},
        low=f"{pair.window.low:g}",
        high=f"{pair.window.high:g}",
    )
    write_text(folder / PAGE, content)


def packed_hu(hu: NDArray[np.int16]) -> str:
    """HU as text: the differences d from voxel to voxel as 2 d, or -2 d - 1 below 0; low bytes, then high ones.

    So nearly all high bytes are 0, and gzip makes a sixth less of it than of the differences.
    """
    steps = np.diff(hu.ravel(), prepend=np.int16(0))  # wraps, as the sum does
    folded = ((steps << 1) ^ (steps >> 15)).view(np.uint16)
    return packed(np.concatenate([folded & 255, folded >> 8]).astype(np.uint8))


def packed(values: NDArray[np.uint8]) -> str:
    """Bytes as text: gzip, base64."""
    return base64.b64encode(gzip.compress(values.tobytes(), 9, mtime=0)).decode()


def _hu(pair: Pair, unit: NDArray[np.float32]) -> NDArray[np.int16]:
    """(Z, H, W) HU within the window, whole as CT has them."""
    return np.rint(pair.window.denormalize(unit)).astype(np.int16)


def _described(pair: Pair) -> dict[str, Any]:
    """What the page's script must know of the volumes."""
    names, colors = pair.labels.names, pair.labels.colors
    return {
        "shape": list(pair.mask.shape),
        "spacing": [float(length) for length in reversed(pair.geometry.spacing)],
        "level": pair.window.level,
        "width": pair.window.width,
        "names": {number: name.replace("_", " ") for number, name in names.items()},
        "colors": {number: list(bytes.fromhex(color[1:])) for number, color in colors.items()},
    }
