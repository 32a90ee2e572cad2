"""Dice and surface distances of the organs that a segmenter finds in the synthetic volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctsynth.data.originals import Original, originals
from ctsynth.data.relabel import relabeling_of
from ctsynth.data.slices import from_slices, stack
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError
from ctsynth.metrics.base import Array, Arrays, Context, Metric, Pair, Record, Unit, interval, ratio, resample
from ctsynth.scoring.scores import Result, Value
from ctsynth.segmentation.base import VolumeSegmenter, translate
from ctsynth.segmentation.cached import CachedSegmenter
from ctsynth.segmentation.find import find_segmenter
from ctsynth.segmentation.masks import MaskFolder
from ctsynth.segmentation.overlap import TOLERANCE_MM, boxes, overlaps, surface_distances
from ctsynth.segmentation.totalsegmentator import TotalSegmentator

APART = {
    "absent": "neither in the label map nor found, left out (subjects)",
    "spurious": "found where the label map has none, left out (subjects)",
    "missed": "in the label map but not found, Dice and NSD 0 and no Hausdorff distance (subjects)",
    "unknown": "not among the segmenter's classes, left out (subjects)",
}
"""What does not go into the means as it is, and how the notes say so."""

FATES = {(True, True): "found", (True, False): "missed", (False, True): "spurious", (False, False): "absent"}
"""What becomes of an organ, by whether the label map shows it and whether it was found."""

SCORED = ("found", "missed")

DEFINITION = {
    "dice": "3-D, a subject and organ at a time",
    "mean": "over the subjects whose label map shows the organ, then over the organs of the paper's Table 2",
    "organ not in the label map": "left out, counted; found by the segmenter or not",
    "organ not found": "Dice and NSD 0; left out of the Hausdorff distance, counted",
    "hd95": "larger of the two 95th percentiles of the distances between surface voxels, mm",
    "nsd": f"share of both surfaces' voxels within {TOLERANCE_MM:g} mm of the other surface",
}


class Dice(Metric):
    """Overlap of the organs that a segmenter finds in a synthetic volume with the label map it was drawn from.

    The volume is the slices stacked again, in HU, on the grid that they have in the patient; the reference is the
    store's own label map. An organ that a subject's label map does not show is left out of the mean, found or not;
    one that the segmenter misses has a Dice of 0. The score of the set is the mean over subjects, then over the
    organs of the paper's Table 2.

    Args:
        segmenter: What finds the organs.
        ceiling: What finds them in the real volumes, for the ceiling; None leaves that out.
        native: What each subject's slices were cut from: score on that grid instead.
    """

    title = "DSC"
    unit = "%"
    digits = 1
    higher_is_better = True
    rank = 4

    def __init__(
        self,
        segmenter: VolumeSegmenter,
        ceiling: VolumeSegmenter | None = None,
        native: Mapping[str, Original] | None = None,
    ) -> None:
        self._segmenter = segmenter
        self._ceiling = ceiling
        self._native = native

    @classmethod
    def available(cls) -> str | None:
        """Why TotalSegmentator cannot run here, if so."""
        return TotalSegmentator.unavailable()

    @classmethod
    def make(cls, context: Context) -> Self | str:
        """The Dice by the segmenter that was named, or by TotalSegmentator if it is available."""
        wanted = context.segmenting
        if wanted.segmenter is None and (reason := TotalSegmentator.unavailable(device=wanted.device)):
            return reason
        native = originals(context.store, context.files) if wanted.native else None
        segmenter = find_segmenter(
            wanted.segmenter or "totalsegmentator", device=wanted.device, store=context.store
        )
        if isinstance(segmenter, MaskFolder):  # of the synthetic volumes: it has seen no real ones
            return cls(segmenter, None, native)
        real = CachedSegmenter(segmenter, context.store.root / "segmentations")
        return cls(CachedSegmenter(segmenter, context.masks, overwrite=context.overwrite), real, native)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it is defined, and all that is known of the segmenter."""
        segmenter = {"segmenter": self._segmenter.name, "version": self._segmenter.version}
        grid = {"grid": "of the source CT" if self._native is not None else "of the stacked slices"}
        return {**DEFINITION, **segmenter, **self._segmenter.settings, **grid}

    def inputs(self, subject: str) -> Sequence[Path]:
        """The source's label volume, where its grid is scored."""
        return [self._native[subject].labels] if self._native is not None else []

    def measure(self, pair: Pair) -> Record:
        """Dice (%), HD95 (mm) and NSD (%) of each organ in the ``synthetic`` volume, and in the ``real`` one.

        Raises:
            DataError: A volume cannot be segmented, or the source's files are gone or on another grid.
        """
        original = self._native[pair.subject] if self._native is not None else None
        reference = _reference(pair, original)
        record = _measured("synthetic", pair, _synthetic(pair, original), reference, self._segmenter)
        if self._ceiling:
            record |= _measured("real", pair, _volume(pair.real, pair, original), reference, self._ceiling)
        return record

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """Dice in %, over the set, by subject and by organ; surface distances as variants ``hd95`` and ``nsd``."""
        return self._result(records, "synthetic", "")

    def ceiling(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same for the segmenter on the real volumes, which no synthetic volume should pass."""
        return self._result(records, "real", " of the real CT") if self._ceiling else None

    def _result(self, records: Mapping[str, Arrays], kind: str, of: str) -> Result:
        table = _Table(records, kind)
        distance = table.column(1, f"HD95{of}", "mm", self.settings)
        surface = table.column(2, f"NSD{of}", self.unit, self.settings)
        dice = table.column(0, f"{self.title}{of}", self.unit, self.settings)
        notes = table.notes()
        if self._segmenter.name != TotalSegmentator.name:
            notes += (f"segmenter: {self._segmenter.name}; the paper's is {TotalSegmentator.name}",)
        return replace(dice, notes=notes, variants={"hd95": distance, "nsd": surface})


def _measured(
    kind: str, pair: Pair, volume: Volume, reference: NDArray[np.uint8], segmenter: VolumeSegmenter
) -> dict[str, ArrayLike]:
    """A part of a record: organs, whether each is in the mean, what became of it, Dice (%), HD95 (mm), NSD (%)."""
    found = segmenter.segment(volume, pair.labels, pair.subject)
    partners = [organ for organ in pair.labels.classes if organ.dice]
    in_paper = [bool(organ.column) for organ in partners]
    sizes, places = overlaps(reference, found.voxels), boxes(reference, found.voxels)
    values, fates = np.full((len(partners), 3), np.nan), []
    for organ, row in zip(partners, values, strict=True):
        both, wanted, got = map(int, sizes[:, organ.id])
        fates.append(FATES[wanted > 0, got > 0] if organ.id in found.classes else "unknown")
        if fates[-1] in SCORED:
            box = places[organ.id]
            masks = reference[box] == organ.id, found.voxels[box] == organ.id
            surfaces = surface_distances(*masks, volume.geometry.spacing)
            row[:] = 200 * both / (wanted + got), surfaces.hd95(), 100 * surfaces.nsd()
    return {
        f"{kind}/organs": [organ.name for organ in partners],
        f"{kind}/averaged": in_paper if any(in_paper) else [True] * len(partners),
        f"{kind}/fates": fates,
        f"{kind}/values": values,
    }


class _Table:
    """Dice (%), HD95 (mm) and NSD (%) of every subject and organ."""

    def __init__(self, records: Mapping[str, Arrays], kind: str) -> None:
        first = next(iter(records.values()))
        fates = np.stack([record[f"{kind}/fates"] for record in records.values()])
        values = np.stack([record[f"{kind}/values"] for record in records.values()])
        shown = np.isin(fates, SCORED).any(axis=0)
        names = first[f"{kind}/organs"]
        self._apart = {
            fate: {str(name): int(n) for name, n in zip(names, (fates == fate).sum(axis=0), strict=True) if n}
            for fate in APART
        }
        self._subjects = list(records)
        self._organs: list[str] = names[shown].tolist()
        self._averaged = first[f"{kind}/averaged"][shown]
        self._values = values[:, shown]

    def column(self, place: int, title: str, unit: str, settings: Mapping[str, Any]) -> Result:
        """One of these three numbers: over the set, by subject, by organ."""
        table = self._values[..., place]
        averaged = table[:, self._averaged]
        return Result(
            title=title,
            total=mean_over_organs(averaged, unit),
            digits=1,
            higher_is_better=place != 1,
            counted="organs",
            per_subject={
                subject: float(np.nanmean(row)) if np.isfinite(row).any() else None
                for subject, row in zip(self._subjects, averaged, strict=True)
            },
            per_organ={organ: _mean(table[:, n], unit) for n, organ in enumerate(self._organs)},
            settings=settings,
        )

    def notes(self) -> tuple[str, ...]:
        """What was left out, and of how many subjects."""
        listed = [
            f"{what}: {', '.join(f'{organ} {n}' for organ, n in self._apart[fate].items())}"
            for fate, what in APART.items()
            if self._apart[fate]
        ]
        beside = [organ for organ, is_in in zip(self._organs, self._averaged, strict=True) if not is_in]
        return (*listed, *(f"{organ}: not part of the mean, as in the paper's Table 2" for organ in beside))


def mean_over_organs(values: Array, unit: str) -> Value:
    """The mean over organs of the means over subjects.

    Args:
        values: (subjects, organs); NaN where there is none.
        unit: Unit of the values.
    """
    has = np.isfinite(values)
    sums, counts = resample(np.where(has, values, 0)), resample(has.astype(np.float64))
    draws = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    known = np.isfinite(draws)
    means = np.divide(
        np.where(known, draws, 0).sum(axis=1),
        known.sum(axis=1),
        out=np.full(len(draws), np.nan),
        where=known.any(axis=1),
    )
    low, high = interval(means, len(values))
    organs = [float(column[kept].mean()) for column, kept in zip(values.T, has.T, strict=True) if kept.any()]
    value = float(np.mean(organs)) if organs else None
    return Value(value=value, low=low, high=high, n=len(organs), unit=unit)


def _mean(values: Array, unit: str) -> Value:
    """Mean of an organ over the subjects that have it."""
    known = values[np.isfinite(values)]
    return ratio(known, np.ones(len(known)), n=len(known), unit=unit)


def _volume(unit: Unit, pair: Pair, original: Original | None) -> Volume:
    """Slices in [0, 1] as a volume in HU: stacked, or on the source's grid."""
    hu = np.empty(unit.shape, np.int16)
    for pixels, target in zip(unit, hu, strict=True):
        target[:] = np.rint(pair.window.denormalize(pixels))
    if original is None:
        return Volume(stack(hu), pair.geometry)
    return Volume(from_slices(hu, original.geometry, "ct"), original.geometry)


def _synthetic(pair: Pair, original: Original | None) -> Volume:
    """The synthetic volume in HU within the window; its own voxels where they lie on the source's grid."""
    if original is not None:
        volume = Volume.load(original.synthetic)
        if volume.geometry.same_as(original.geometry):
            hu = volume.voxels if volume.voxels.dtype.kind in "if" else volume.voxels.astype(np.float32)
            return Volume(np.rint(pair.window.clip(hu)).astype(np.int16), volume.geometry)
    return _volume(pair.synthetic, pair, original)


def _reference(pair: Pair, original: Original | None) -> NDArray[np.uint8]:
    """The label map on the grid that is scored."""
    if original is None:
        return stack(pair.mask)
    volume = Volume.load(original.labels)
    if not volume.geometry.same_as(original.geometry):
        raise DataError(
            f"{original.labels}: not on the grid that the slices of {pair.subject} were cut from",
            hint="it was changed since: run ctsynth preprocess again, or score without `native`",
        )
    relabeling, by = relabeling_of(original.labels, volume, pair.labels, dataset=original.names)
    return translate(volume.voxels, relabeling, pair.labels, str(original.labels), by).voxels
