"""Pairs real subjects with synthetic volumes, has the metrics measure them, gathers what they found."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from ctsynth import __version__
from ctsynth.data.store import Store, Subject
from ctsynth.errors import CTSynthError, RunError, UsageError, WriteError, explain
from ctsynth.files import code_digest, sha256, sole
from ctsynth.metrics import base
from ctsynth.metrics.base import Context, Metric, Pair, Segmenting
from ctsynth.scoring.choice import choose
from ctsynth.scoring.pairs import read_pair
from ctsynth.scoring.records import Arrays, Records
from ctsynth.scoring.scores import Reference, Result, Scores, Sources, Value, has_tissues
from ctsynth.scoring.volumes import base_name, match, provenance, refuse_strangers
from ctsynth.shards import lock_name, take

log = logging.getLogger(__name__)

ALL = "1/1"
"""The shard of all subjects."""

RECORDS = "measured"
"""Folder beside the volumes that keeps what was measured of each."""


def score(
    synthetic: Path,
    store: Store,
    split: str,
    *,
    progress: Callable[..., None] = lambda done, note="": None,
    **options: Any,  # noqa: ANN401  those of scoring
) -> Scores:
    """Scores synthetic volumes against the real ones of a split, one subject in memory at a time.

    Args:
        synthetic: As in ``scoring``.
        store: As there.
        split: As there.
        progress: Called with the number of subjects done and the name of the last.
        options: All others of ``scoring``.

    Raises:
        DataError: A subject has no volume, or a volume is on another grid or not in HU.
        UsageError: No such metric or split, or none of the metrics can be computed here.
        RunError: Another process is scoring these volumes.
    """
    with scoring(synthetic, store, split, **options) as work:
        work.measure(progress)
        return work.scores()


@contextmanager
def scoring(
    synthetic: Path,
    store: Store,
    split: str,
    *,
    metrics: Sequence[str] | None = None,
    partial: bool = False,
    segmenting: Segmenting = Segmenting(),  # noqa: B008  frozen
    shard: str | None = None,
    overwrite: bool = False,
) -> Iterator[Scoring]:
    """The scoring of synthetic volumes, whose records are this process's own in the meantime.

    Args:
        synthetic: A folder of SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz in HU, or one such file.
        store: The real slices and their masks.
        split: ``train`` or ``test``.
        metrics: By name; all that there are if None. What cannot be computed here is left out, with the reason.
        partial: Score the subjects that have a volume even if others have none.
        segmenting: For the Dice.
        shard: I/N: only the I-th of N shares of the subjects; all if None.
        overwrite: Measure again what has been measured.

    Raises:
        DataError: A subject has no volume, or one that was drawn for another subject.
        UsageError: No such metric or split, or none of the metrics can be computed here.
        RunError: Another process is at work on the same share.
    """
    subjects = store.subjects(split)
    share = take(subjects, shard or ALL)
    files, missing = match(synthetic, subjects, split, share, partial=partial)
    scored = [subject for subject in share if subject.name in files]
    refuse_strangers(scored, files)
    beside = synthetic.parent if synthetic.is_file() else synthetic
    context = Context(
        store=store, split=split, files=files, segmenting=segmenting, masks=beside / "segmentations",
        overwrite=overwrite,
    )  # fmt: skip
    chosen, left_out = choose(metrics, context)
    with _own_folder(beside, shard) as folder:
        names = [subject.name for subject in scored]
        records = {name: Records(folder / name, names) for name in chosen}
        yield Scoring(synthetic, store, split, scored, files, missing, chosen, left_out, records, shard, overwrite)


@contextmanager
def _own_folder(beside: Path, shard: str | None) -> Iterator[Path]:
    """Where the records lie: beside the volumes; for those that others own somewhere else, until all is done."""
    if shard is None and not os.access(beside, os.W_OK):
        log.warning("%s cannot be written to: what is measured is not kept", beside)
        with TemporaryDirectory(prefix="ctsynth_") as folder:
            yield Path(folder)
        return
    with sole(beside / RECORDS / lock_name("score", shard or ALL)):
        yield beside / RECORDS


@dataclass(frozen=True)
class Scoring:
    """Volumes, what they are compared with, and what is known of them; ``scoring`` makes it.

    Args:
        synthetic: Where the volumes lie.
        store: The real slices.
        split: Whose subjects are scored.
        subjects: Those that are.
        files: The volume of each.
        missing: Subjects without one.
        metrics: By name.
        left_out: Metrics that cannot be computed here, and why.
        records: Of each metric.
        shard: Which share of the subjects these are.
        overwrite: Measure again what has been measured.
    """

    synthetic: Path
    store: Store
    split: str
    subjects: Sequence[Subject]
    files: Mapping[str, Path]
    missing: Sequence[str]
    metrics: Mapping[str, Metric]
    left_out: Mapping[str, str]
    records: Mapping[str, Records]
    shard: str | None
    overwrite: bool

    def measure(self, progress: Callable[..., None] = lambda done, note="": None) -> int:
        """Measures what is not yet, or not of these very files and settings.

        Returns:
            The number of subjects that were measured.

        Raises:
            DataError: The only volume is on another grid or not in HU.
            RunError: Some of several volumes cannot be measured; the others are, and that is kept.
        """
        progress(0)
        made, broken = 0, []
        for done, subject in enumerate(self.subjects, start=1):
            try:
                made += self._measure(subject)
            except (WriteError, UsageError):  # not for this subject alone
                raise
            except Exception as error:
                broken.append(explain(error, str(self.files[subject.name])))
            progress(done, subject.name)
        if broken:
            raise _several(broken, len(self.subjects))
        if self.shard:
            others = self.store.subjects("test" if self.split == "train" else "train")
            for metric in self.metrics.values():
                metric.ahead(take(others, self.shard))
        return made

    def _measure(self, subject: Subject) -> bool:
        """A function of its own, so that a subject is out of memory before the next one is read."""
        keys = self._keys(subject)
        lacking = [n for n, key in keys.items() if self.overwrite or not self.records[n].has(subject.name, key)]
        if lacking:
            pair = read_pair(subject, self.files[subject.name], self.store)
            for name in lacking:
                self.records[name].keep(subject.name, keys[name], measured(self.metrics[name], pair))
        return bool(lacking)

    def _keys(self, subject: Subject) -> dict[str, str]:
        """By metric, a SHA-256 of all that its record of a subject depends on."""
        store = self.store
        pair = {
            "synthetic": sha256(self.files[subject.name]),
            "real": [subject.record[key] for key in ("ct_sha256", "mask_sha256", "geometry")],
            "window": [store.window.level, store.window.width, store.size],
            "labels": store.labels.as_json(),
            "ctsynth": code_digest(),
        }
        keys = {}
        for name, metric in self.metrics.items():
            own = {
                "code": sha256(Path(inspect.getfile(type(metric)))),
                "settings": metric.settings,
                "inputs": [sha256(path) for path in metric.inputs(subject.name)],
            }
            keys[name] = hashlib.sha256(json.dumps(pair | own, sort_keys=True).encode()).hexdigest()
        return keys

    def scores(self) -> Scores:
        """What all that was measured comes to.

        Raises:
            DataError: A record is gone or damaged.
        """
        origin = provenance(self.files.values())
        store = self.store
        return Scores(
            name=_name(origin, self.synthetic),
            split=self.split,
            subjects=len(self.subjects),
            slices=sum(subject.slices for subject in self.subjects),
            missing=tuple(self.missing),
            labels=store.labels,
            metrics=self._columns(),
            left_out=self.left_out,
            floor=self._reference("floor", "it takes FID, and slices of the other split"),
            ceiling=self._reference("ceiling", "it takes Dice, and a segmenter that has seen the real volumes"),
            provenance=origin,
            settings={
                "size": store.size,
                "window": {"level": store.window.level, "width": store.window.width},
                "bootstrap": {
                    "over": "subjects",
                    "resamples": base.RESAMPLES,
                    "seed": base.SEED,
                    "interval": 0.95,
                },
                "store_digest": store.digest,
            },
            versions={"ctsynth": __version__, "python": platform.python_version()}
            | {name: version(name) for name in ("numpy", "scipy", "nibabel")},
            sources=Sources(store=store.root, synthetic=self.files),
            phantom=store.phantom,
        )

    def _columns(self) -> dict[str, Result]:
        columns: dict[str, Result] = {}
        for name, metric in self.metrics.items():
            columns |= _named(metric.key or name, metric.result(self.records[name]))
        return columns

    def _reference(self, kind: Literal["floor", "ceiling"], reason: str) -> Reference:
        values: dict[str, Value] = {}
        for name, metric in self.metrics.items():
            result = getattr(metric, kind)(self.records[name])
            for key, one in _named(metric.key or name, result).items() if result else ():
                values[key] = one.total
                values |= {f"{key}/{organ}": value for organ, value in one.per_organ.items()}
        return Reference(values=values, reason="") if values else Reference(values=None, reason=reason)


def measured(metric: Metric, pair: Pair) -> Arrays:
    """What a metric measures of a pair, as arrays.

    Raises:
        UsageError: A part of it is neither numbers nor text.
    """
    record = {name: np.asarray(values) for name, values in metric.measure(pair).items()}
    for name, values in record.items():
        if values.dtype.kind not in "biufU":
            raise UsageError(
                f"{metric.title}: what it measures of {pair.subject} holds {name!r} of {values.dtype}",
                hint="a metric's measure() returns numbers or text; NaN stands for none",
            )
    return record


def _several(broken: Sequence[CTSynthError], total: int) -> CTSynthError:
    if total == 1:
        return broken[0]
    listed = "".join(f"\n  {error.message}" for error in broken)
    own = f"{broken[0].hint}; " if len(broken) == 1 and broken[0].hint else ""
    return RunError(
        f"{len(broken)} of {total} volumes cannot be scored:{listed}",
        hint=f"{own}then run the same command again: what was measured is kept",
    )


def _name(origin: Mapping[str, Any], synthetic: Path) -> str:
    """What to call the volumes: their method, and for a model of tissues what they were drawn from."""
    method = str(origin.get("method") or base_name(synthetic))
    if not has_tissues(origin):
        return method
    return f"{method} from {'body' if origin.get('tissues') == 'none' else 'tissues'}"


def _named(name: str, result: Result) -> dict[str, Result]:
    return {name: result} | {f"{name}_{suffix}": variant for suffix, variant in result.variants.items()}
