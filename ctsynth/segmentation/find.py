"""Finds what is to find the organs: TotalSegmentator, a training run, or a folder of masks."""

from __future__ import annotations

from pathlib import Path

from ctsynth.data.formats import is_volume
from ctsynth.data.store import Store
from ctsynth.errors import UsageError
from ctsynth.segmentation.base import VolumeSegmenter
from ctsynth.segmentation.masks import MaskFolder
from ctsynth.segmentation.totalsegmentator import TASKS, TotalSegmentator


def find_segmenter(name: str, *, device: str = "auto", store: Store | None = None) -> VolumeSegmenter:
    """The segmenter of that name.

    Args:
        name: ``totalsegmentator``, ``totalsegmentator-fast``, a run of ``ctsynth train-segmenter``, which has a
            config.json, or a folder of masks.
        device: ``cuda``, ``mps`` or ``cpu``; ``auto`` is a GPU, and the CPU for a run's segmenter only.
        store: What is scored; a run's segmenter must have been trained on slices like its.

    Raises:
        UsageError: There is none of that name, or it cannot be had here.
        DataError: It is a run's, and the store has another label set, size or window.
    """
    mode = name.removeprefix("totalsegmentator").removeprefix("-") or "default"
    if name.startswith("totalsegmentator") and mode in TASKS:
        return TotalSegmentator(mode, device)
    folder = Path(name)
    if (folder / "config.json").is_file():
        from ctsynth.segmentation.trained import TrainedSegmenter

        trained = TrainedSegmenter(folder, device)
        if store is not None:
            trained.check(store)
        return trained
    if any(map(is_volume, [*folder.glob("*"), *folder.glob("*/*")])):
        return MaskFolder(folder)
    if folder.is_dir():
        raise UsageError(
            f"{name}: neither a training run (config.json) nor masks (SUBJECT.nii.gz) in this folder",
            hint="train a segmenter: ctsynth train-segmenter out --out runs/segmenter",
        )
    raise UsageError(
        f"no segmenter is called {name!r}, and there is no such folder",
        hint="there are: totalsegmentator, totalsegmentator-fast, a run of ctsynth train-segmenter, or a folder of"
        " masks SUBJECT.nii.gz",
    )
