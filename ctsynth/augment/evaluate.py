"""How well a segmenter finds the organs of a store's subjects: Dice and normalized surface distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.slices import stack, stacked_geometry
from ctsynth.data.split_body import join_body
from ctsynth.data.store import Store, Subject
from ctsynth.data.volume import Volume
from ctsynth.labels import LabelSet
from ctsynth.schema import Range
from ctsynth.segmentation.overlap import boxes, overlaps, surface_distances
from ctsynth.segmentation.trained import TrainedSegmenter

ByOrgan = dict[str, Annotated[float, Range(0, 1)] | None]
"""By organ, from 0 to 1; None where the subject does not have it."""


class Measured(TypedDict):
    """Of each subject, by organ."""

    dice: dict[str, ByOrgan]
    nsd: dict[str, ByOrgan]


def measure(segmenter: TrainedSegmenter, store: Store, subjects: Sequence[Subject]) -> Measured:
    """Dice and NSD of every organ in the slices of some subjects.

    Raises:
        DataError: A subject's arrays are damaged.
    """
    measured = Measured(dice={}, nsd={})
    for subject in subjects:
        truth, found, spacing = _masks(segmenter, store, subject)
        sizes, places = overlaps(truth, found), boxes(truth, found)
        dice, surface = measured["dice"][subject.name], measured["nsd"][subject.name] = ByOrgan(), ByOrgan()
        for number, name in organs(store.labels).items():
            both, wanted, got = (int(kind[number]) for kind in sizes)
            dice[name] = surface[name] = None
            if wanted:
                box = places[number]
                dice[name] = 2 * both / (wanted + got)
                surface[name] = surface_distances(truth[box] == number, found[box] == number, spacing).nsd()
    return measured


def mean_dice(segmenter: TrainedSegmenter, store: Store, subjects: Sequence[Subject]) -> float:
    """Mean Dice over the organs of each subject, and over subjects; what chooses a checkpoint."""
    means = []
    for subject in subjects:
        truth, found, _ = _masks(segmenter, store, subject)
        both, wanted, got = overlaps(truth, found)[:, list(organs(store.labels))]
        there = wanted > 0
        if there.any():
            means.append(float((2 * both[there] / (wanted + got)[there]).mean()))
    return float(np.mean(means)) if means else 0.0


def organs(labels: LabelSet) -> dict[int, str]:
    """The classes that are measured: all but the body and its tissues."""
    return {organ.id: organ.name for organ in labels.classes}


def _masks(
    segmenter: TrainedSegmenter, store: Store, subject: Subject
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[float, float, float]]:
    """The true and the found mask, (X, Y, Z), and the spacing of their voxels, mm."""
    geometry = stacked_geometry(subject.geometry, store.size)
    volume = Volume(stack(np.asarray(subject.ct())), geometry)
    labels = store.labels.without_tissues
    truth = np.asarray(subject.mask())
    truth = stack(join_body(truth, store.labels) if store.labels.tissues else truth)
    return truth, segmenter.segment(volume, labels, subject.name).voxels, geometry.spacing
