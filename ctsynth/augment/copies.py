"""How many of a cell's synthetic slices are copies of slices that its generator was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.store import Subject
from ctsynth.data.window import Window
from ctsynth.measures.neighbors import nearest, thumbnails

QUANTILE = 0.01
"""Of the distances of real test slices to the training slices; a nearer synthetic slice counts as a copy."""


def share_of_copies(
    synthetic: Sequence[Subject], training: Sequence[Subject], real: Sequence[Subject], window: Window
) -> float:
    """Percent of synthetic slices that are nearer to a training slice than 99 % of real slices are.

    As the metric ``copies``: slices with a body, reduced to 32 x 32.

    Args:
        synthetic: Drawn subjects.
        training: What the generator learned from.
        real: Test subjects.
        window: The store's.
    """
    known = _thumbnails(training, window)
    threshold = np.quantile(nearest(_thumbnails(real, window), known)[0], QUANTILE)
    return 100 * float(np.mean(nearest(_thumbnails(synthetic, window), known)[0] < threshold))


def _thumbnails(subjects: Sequence[Subject], window: Window) -> NDArray[np.uint8]:
    """(slices, 1024) of all slices with a body."""
    shown = []
    for subject in subjects:
        has_body = np.array([plane.any() for plane in subject.mask()])
        shown.append(thumbnails(window.normalize(subject.ct())[has_body]))
    return np.concatenate(shown)
