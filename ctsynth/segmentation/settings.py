"""What finds the organs whose Dice is scored: options of ``ctsynth score``, without numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ctsynth.device import DeviceName
from ctsynth.schema import Help


@dataclass(frozen=True, slots=True)
class Segmenting:
    """What finds the organs whose Dice is scored."""

    segmenter: Annotated[
        str | None,
        Help(
            "For dice: totalsegmentator, totalsegmentator-fast, a run of `ctsynth train-segmenter`, or a folder of"
            " masks SUBJECT.nii.gz.",
            "totalsegmentator, if available",
        ),
    ] = None

    device: Annotated[
        DeviceName, Help("Where to draw and to run the segmenter, which uses a CPU only if named here.")
    ] = "auto"
    """``auto`` is a GPU, and never the CPU for TotalSegmentator."""

    native: Annotated[bool, Help("Dice on the source CT's grid, not the stacked slices'.")] = False
