"""What a deformation does to the classes of a label volume, and whether a patient could have the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.ndimage import label as components

Labels = NDArray[np.unsignedinteger[Any]]

MOST_CHANGE = 0.25
"""Largest change of a class's volume."""

_PIECE, _NEW_PIECE = 0.01, 0.02
"""Least share of a class that a part of it has to count, before and after: one close to it is not new."""

_NEIGHBORS = np.ones((3, 3, 3), np.bool_)


def implausible(before: Labels, after: Labels, names: Mapping[int, str], most_change: float = MOST_CHANGE) -> str:
    """Why a label volume is no plausible deformation of another; empty if it is.

    No class may vanish, fall into more parts, or change its volume by a larger share than ``most_change``.
    """
    boxes = find_objects(after)
    for label, box in enumerate(find_objects(before), start=1):
        if box is None:
            continue
        name = names.get(label, f"label {label}")
        there = boxes[label - 1] if label <= len(boxes) else None
        if there is None:
            return f"{name} vanishes"
        old, new = before[box] == label, after[there] == label
        change = np.count_nonzero(new) / np.count_nonzero(old) - 1
        if abs(change) > most_change:
            return f"{name} changes its volume by {100 * change:+.0f} %"
        if _parts(new, _NEW_PIECE) > _parts(old, _PIECE):
            return f"{name} splits"
    return ""


def _parts(mask: NDArray[np.bool_], share: float) -> int:
    """The connected parts of a class that have this share of it at least."""
    sizes = np.bincount(components(mask, _NEIGHBORS)[0].ravel())[1:]
    return int(np.count_nonzero(sizes >= share * sizes.sum()))


def distances(before: Labels, after: Labels, names: Mapping[int, str]) -> dict[str, dict[str, float]]:
    """Dice of each class with itself before, and its volume as a share of that before."""
    old, new = np.bincount(before.ravel()), np.bincount(after.ravel(), minlength=int(before.max()) + 1)
    both = np.bincount(before[before == after], minlength=len(old))
    return {
        names.get(int(label), str(label)): {
            "dice": round(2 * int(both[label]) / int(old[label] + new[label]), 4),
            "volume": round(int(new[label]) / int(old[label]), 4),
        }
        for label in np.flatnonzero(old)
        if label
    }
