"""Pairs real subjects with synthetic volumes, feeds the metrics, gathers what they found."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ctsynth import __version__
from ctsynth.data.store import Store, Subject
from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json
from ctsynth.metrics import base
from ctsynth.metrics._pairs import read_pair
from ctsynth.metrics.base import Metric
from ctsynth.scores import Reference, Result, Scores, Sources, Value

log = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii")

OWN_TO_VOLUME = ("subject", "mask", "mask_sha256", "body")
"""Of the JSON beside a volume: what differs from volume to volume by nature."""


@dataclass(frozen=True, slots=True)
class Segmenting:
    """What finds the organs whose Dice is scored.

    Args:
        segmenter: ``totalsegmentator``, ``totalsegmentator-fast`` or a folder of masks; None is TotalSegmentator
            if it can be had.
        device: Where it runs; ``auto`` is a GPU.
        native: On the grid of the source CT, and not on that of the stacked slices.
    """

    segmenter: str | None = None
    device: str = "auto"
    native: bool = False


def score(
    synthetic: Path,
    store: Store,
    split: str,
    *,
    metrics: Sequence[str] | None = None,
    partial: bool = False,
    segmenting: Segmenting = Segmenting(),
    progress: Callable[..., None] = lambda done, note="": None,
) -> Scores:
    """Scores synthetic volumes against the real ones of a split, one subject in memory at a time.

    Args:
        synthetic: A folder of SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz in HU, or one such file.
        store: The real slices and their masks.
        split: ``train`` or ``test``.
        metrics: By name; all that there are if None. What cannot be computed here is left out, with the reason.
        partial: Score the subjects that have a volume even if others have none.
        segmenting: For the Dice.
        progress: Called with the number of subjects done and the name of the last.

    Raises:
        DataError: A subject has no volume, or a volume is on another grid or not in HU.
        UsageError: No such metric or split, or none of the metrics can be computed here.
    """
    subjects = store.subjects(split)
    files, missing = match(synthetic, subjects, split, partial=partial)
    scored = [subject for subject in subjects if subject.name in files]
    wants_dice = metrics is None or "dice" in metrics
    chosen, left_out = choose(metrics, _dice(segmenting, store, scored, files) if wants_dice else None)
    for metric in chosen.values():
        metric.begin(store, split)
    progress(0)
    for done, subject in enumerate(scored, start=1):
        _feed(chosen.values(), subject, files[subject.name], store)
        progress(done, subject.name)
    origin = provenance(files.values())
    return Scores(
        name=str(origin.get("method") or base_name(synthetic)),
        split=split,
        subjects=len(scored),
        slices=sum(subject.slices for subject in scored),
        missing=tuple(missing),
        labels=store.labels,
        metrics=_columns(chosen),
        left_out=left_out,
        floor=_floor(chosen),
        ceiling=_ceiling(chosen),
        provenance=origin,
        settings={
            "size": store.size,
            "window": {"level": store.window.level, "width": store.window.width},
            "bootstrap": {"over": "subjects", "resamples": base.RESAMPLES, "seed": base.SEED, "interval": 0.95},
            "store_digest": store.digest,
        },
        versions={"ctsynth": __version__, "python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "scipy", "nibabel")},
        sources=Sources(store=store.root, synthetic=files),
    )


def _feed(metrics: Iterable[Metric], subject: Subject, path: Path, store: Store) -> None:
    """A function of its own, so that a subject is out of memory before the next one is read."""
    pair = read_pair(subject, path, store)
    for metric in metrics:
        metric.add(pair)


def _dice(
    segmenting: Segmenting, store: Store, scored: Sequence[Subject], files: Mapping[str, Path]
) -> Metric | None:
    """Dice with its segmenter; None where TotalSegmentator, unless another is named, cannot be had."""
    from ctsynth.metrics.dice import Dice, Original
    from ctsynth.metrics.segmenters.base import find
    from ctsynth.metrics.segmenters.kept import Kept
    from ctsynth.metrics.segmenters.masks import MaskFolder
    from ctsynth.metrics.segmenters.totalsegmentator import TotalSegmentator

    if segmenting.segmenter is None and TotalSegmentator.unavailable(device=segmenting.device):
        return None
    segmenter = find(segmenting.segmenter or "totalsegmentator", device=segmenting.device)
    native = None
    if segmenting.native:
        source = Path(read_json(store.root / "manifest.json")["source"])
        native = {s.name: Original(s.geometry, source / s.record["label"], files[s.name]) for s in scored}
    if isinstance(segmenter, MaskFolder):  # of the synthetic volumes: it has seen no real ones
        return Dice(segmenter, None, native)
    beside = next(iter(files.values())).parent
    real = Kept(segmenter, store.root / "segmentations")
    return Dice(Kept(segmenter, beside / "segmentations"), real, native)


def choose(names: Sequence[str] | None, dice: Metric | None = None) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that can be computed here, ready to take pairs in, and why the others cannot.

    Args:
        names: Of metrics; all that there are if None.
        dice: With the segmenter that was asked for.

    Raises:
        UsageError: No such metric, or none of them can be computed here.
    """
    chosen: dict[str, Metric] = {}
    left_out: dict[str, str] = {}
    found = {name: base.find(name) for name in (base.names() if names is None else names)}
    for name, metric in sorted(found.items(), key=lambda item: item[1].rank):
        if name == "dice" and dice is not None:
            chosen[name] = dice
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


def match(
    synthetic: Path, subjects: Sequence[Subject], split: str, *, partial: bool = False
) -> tuple[dict[str, Path], list[str]]:
    """Finds each subject's volume by its name.

    Args:
        synthetic: A folder, or the file of one subject, which is then the only one scored.
        subjects: Of the split.
        split: For messages.
        partial: Missing volumes are no error, as long as there is one.

    Returns:
        The volumes by subject, and the subjects without one.

    Raises:
        DataError: Volumes are missing, or a subject has two.
    """
    single = synthetic.is_file()
    if not single and not synthetic.is_dir():
        raise DataError(f"{synthetic}: no such file or folder", hint="draw the volumes first: ctsynth sample")
    if not subjects:
        raise DataError(f"the store has no {split} subjects", hint="score another split: --split train")
    volumes = [synthetic] if single else sorted(_volumes(synthetic))
    found: dict[str, Path] = {}
    known, extra = {subject.name for subject in subjects}, []
    for path in volumes:
        name = next((name for name in _names(path) if name in known), None)
        if name is None:
            extra.append(path.name)
        elif name in found:
            raise DataError(
                f"{synthetic}: {found[name].name} and {path.name} are both of {name}", hint="remove one"
            )
        else:
            found[name] = path
    if extra and found:
        log.warning("%s: no %s subject has the name of %s: not scored", synthetic, split, _listed(extra))
    missing = [] if single and found else [subject.name for subject in subjects if subject.name not in found]
    if missing and not (partial and found):
        raise DataError(
            f"{synthetic}: no volume of {_listed(missing)} ({len(missing)} of {len(subjects)} {split} subjects)",
            hint="wanted SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz each; --partial scores those that are there",
        )
    if missing:
        log.warning("%d of %d %s subjects are missing: not scored", len(missing), len(subjects), split)
    return {subject.name: found[subject.name] for subject in subjects if subject.name in found}, missing


def base_name(path: Path) -> str:
    """A file's or folder's name without suffix and ``_synthetic``."""
    name = path.absolute().name
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix).removesuffix("_synthetic")


def _volumes(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.endswith(SUFFIXES) and not path.name.startswith("."):  # a hidden one is half written
            yield path


def _names(path: Path) -> tuple[str, str]:
    """The subjects that a file may be of: a subject may itself be called NAME_synthetic."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    return stem, stem.removesuffix("_synthetic")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def provenance(files: Iterable[Path]) -> dict[str, Any]:
    """What the volumes were made with, from the JSON file beside each: the entries in which all agree.

    What they disagree in is named in ``differing``, and volumes without such a file are counted in ``unknown``.
    """
    records: list[Mapping[str, Any]] = []
    unknown = 0
    for path in files:
        record = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
        content = read_json(record) if record.is_file() else None
        if isinstance(content, dict):
            records.append({key: value for key, value in content.items() if key not in OWN_TO_VOLUME})
        else:
            unknown += 1
    keys = dict.fromkeys(key for record in records for key in record)
    shared = {key: records[0].get(key) for key in keys if all(r.get(key) == records[0].get(key) for r in records)}
    differing = [key for key in keys if key not in shared]
    if differing:
        log.warning("the volumes were not made alike: they differ in %s", ", ".join(differing))
    return shared | ({"differing": differing} if differing else {}) | ({"unknown": unknown} if unknown else {})


def _columns(metrics: Mapping[str, Metric]) -> dict[str, Result]:
    columns: dict[str, Result] = {}
    for name, metric in metrics.items():
        columns |= _named(metric.key or name, metric.result())
    return columns


def _named(name: str, result: Result) -> dict[str, Result]:
    return {name: result} | {f"{name}_{suffix}": variant for suffix, variant in result.variants.items()}


def _floor(metrics: Mapping[str, Metric]) -> Reference:
    found = {name: metric.floor() for name, metric in metrics.items()}
    return _reference(metrics, found, "it takes FID, and slices of the other split")


def _ceiling(metrics: Mapping[str, Metric]) -> Reference:
    found = {name: metric.ceiling() for name, metric in metrics.items()}
    return _reference(metrics, found, "it takes Dice, and a segmenter that has seen the real volumes")


def _reference(metrics: Mapping[str, Metric], found: Mapping[str, Result | None], reason: str) -> Reference:
    values: dict[str, Value] = {}
    for name, result in found.items():
        if result is not None:
            for key, one in _named(metrics[name].key or name, result).items():
                values[key] = one.total
                values |= {f"{key}/{organ}": value for organ, value in one.per_organ.items()}
    return Reference(values=values, reason="") if values else Reference(values=None, reason=reason)
