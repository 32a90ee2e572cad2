"""What a segmenter is, and how its classes become those of a label set: by name, never by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.relabel import relabeled
from ctsynth.data.volume import Volume
from ctsynth.labels import BACKGROUND, LabelSet, Relabeling


@dataclass(frozen=True, eq=False, slots=True)
class Segmentation:
    """What a segmenter found in a volume.

    Args:
        voxels: (X, Y, Z) uint8 ids of the label set that was asked for; what it has no class for is body.
        classes: The ids that were looked for. Another one was not: that it is missing says nothing.
    """

    voxels: NDArray[np.uint8]
    classes: frozenset[int]


class VolumeSegmenter(Protocol):
    """Finds organs in CT volumes.

    Attributes:
        name: What to call it in tables.
        version: Version of the program; empty where it is unknown.
        settings: All else that its masks depend on.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102

    def segment(self, volume: Volume, labels: LabelSet, subject: str) -> Segmentation:
        """The organs of a volume, on its grid.

        Args:
            volume: HU.
            labels: What the ids of the result shall mean.
            subject: Whose it is, for messages, and for segmenters that look masks up.

        Raises:
            DataError: The volume cannot be segmented.
        """


def translate(
    voxels: NDArray[Any], relabeling: Relabeling, labels: LabelSet, source: str, by: str
) -> Segmentation:
    """Masks in the ids of a label set; what it has no class for is body.

    Args:
        voxels: (X, Y, Z), whole numbers.
        relabeling: Which of them becomes which id.
        labels: What the ids mean.
        source: Source of the masks, for messages.
        by: Who says what their numbers mean, for messages.

    Raises:
        DataError: A value has no name.
    """
    found = relabeled(source, voxels, relabeling, by)
    if found.unknown is not None:
        found.voxels[found.unknown] = labels.body_id
    return Segmentation(found.voxels, frozenset(relabeling.ids.values()) - {BACKGROUND, labels.body_id})
