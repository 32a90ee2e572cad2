"""Which metrics can be computed here, and what finds the organs for the Dice."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctsynth.data.relabel import Given
from ctsynth.data.store import Store, Subject
from ctsynth.errors import DataError, UsageError
from ctsynth.metrics import base
from ctsynth.metrics.base import Metric
from ctsynth.metrics.dice import Dice, Original
from ctsynth.segmentation.cached import CachedSegmenter
from ctsynth.segmentation.find import find_segmenter
from ctsynth.segmentation.masks import MaskFolder
from ctsynth.segmentation.totalsegmentator import TotalSegmentator

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segmenting:
    """What finds the organs whose Dice is scored.

    Args:
        segmenter: ``totalsegmentator``, ``totalsegmentator-fast``, a segmenter's run or a folder of masks; None is
            TotalSegmentator if it can be had.
        device: Where it runs; ``auto`` is a GPU, and never the CPU for TotalSegmentator.
        native: On the grid of the source CT, and not on that of the stacked slices.
    """

    segmenter: str | None = None
    device: str = "auto"
    native: bool = False


DEFAULT = Segmenting()


def choose(
    names: Sequence[str] | None,
    segmenting: Segmenting,
    store: Store,
    files: Mapping[str, Path],
    masks: Path,
    *,
    overwrite: bool = False,
) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that can be computed here, and why the others cannot.

    Args:
        names: Of metrics; all that there are if None.
        segmenting: For the Dice.
        store: The real slices.
        files: The volume of each subject that is scored.
        masks: Folder that keeps the masks of the volumes.
        overwrite: Make these masks again.

    Raises:
        UsageError: No such metric, or none of them can be computed here.
    """
    chosen: dict[str, Metric] = {}
    left_out: dict[str, str] = {}
    found = {name: base.find_metric(name) for name in (base.metric_names() if names is None else names)}
    for name, metric in sorted(found.items(), key=lambda item: item[1].rank):
        made = _dice(segmenting, store, files, masks, overwrite=overwrite) if name == "dice" else None
        if made is not None:
            chosen[name] = made
            continue
        reason = metric.available()
        if reason is None:
            chosen[name] = metric()
        else:
            left_out[name] = reason
            log.info("%s is left out: %s", name, reason)
    if not chosen:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UsageError(f"no metric to compute: {why or 'none was named'}", hint="see ctsynth score --help")
    return chosen, left_out


def _originals(store: Store, files: Mapping[str, Path]) -> dict[str, Original]:
    source = Path(store.source)
    subjects = {name: store.subjects_by_name[name] for name in files}
    if unknown := [name for name, subject in subjects.items() if "label" not in subject.record]:
        raise DataError(f"{store.root}: its manifest does not say where the label volume of {unknown[0]} lies")
    return {
        name: Original(subject.geometry, source / subject.record["label"], files[name], _names(store, subject))
        for name, subject in subjects.items()
    }


def _names(store: Store, subject: Subject) -> Given | None:
    """What the numbers of a subject's label volume meant to preprocess; None where they were the set's own."""
    names = subject.record.get("label_names")
    return Given({value: (name,) for name, value in names.items()}, str(store.root)) if names else None


def _dice(
    segmenting: Segmenting, store: Store, files: Mapping[str, Path], masks: Path, *, overwrite: bool
) -> Dice | None:
    """Dice with its segmenter; None where TotalSegmentator, unless another is named, cannot be had."""
    if segmenting.segmenter is None and TotalSegmentator.unavailable(device=segmenting.device):
        return None
    native = _originals(store, files) if segmenting.native else None
    segmenter = find_segmenter(segmenting.segmenter or "totalsegmentator", device=segmenting.device, store=store)
    if isinstance(segmenter, MaskFolder):  # of the synthetic volumes: it has seen no real ones
        return Dice(segmenter, None, native)
    real = CachedSegmenter(segmenter, store.root / "segmentations")
    return Dice(CachedSegmenter(segmenter, masks, overwrite=overwrite), real, native)
