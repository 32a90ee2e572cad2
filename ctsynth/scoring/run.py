"""Pairs real subjects with synthetic volumes, has the metrics measure them, gathers what they found."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypedDict, Unpack

from ctsynth import __version__
from ctsynth.data.store import Store, Subject
from ctsynth.data.workers import MOST_WORKERS, cores, outcomes
from ctsynth.errors import CTSynthError, RunError
from ctsynth.files import sole
from ctsynth.metrics import base
from ctsynth.metrics.base import Context, Metric
from ctsynth.sampling.record import agreed
from ctsynth.scoring.choice import choose
from ctsynth.scoring.measuring import Case, Measuring
from ctsynth.scoring.records import Records
from ctsynth.scoring.scores import Reference, Result, Scores, Sources, Value, has_tissues
from ctsynth.scoring.volumes import base_name, match, refuse_strangers
from ctsynth.segmentation.settings import Segmenting
from ctsynth.shards import lock_name, take

log = logging.getLogger(__name__)

ALL = "1/1"
"""The shard of all subjects."""

RECORDS = "measured"
"""Folder beside the volumes that keeps what was measured of each."""

_A_WORKER = 8
"""Subjects for which starting a process pays."""


class ScoringOptions(TypedDict, total=False):
    """Keywords of ``scoring``."""

    metrics: Sequence[str] | None
    partial: bool
    segmenting: Segmenting
    shard: str | None
    overwrite: bool


def score(
    synthetic: Path,
    store: Store,
    split: str,
    *,
    progress: Callable[..., None] = lambda done, note="": None,
    workers: int | None = 1,
    **options: Unpack[ScoringOptions],
) -> Scores:
    """Scores synthetic volumes against the real ones of a split, one subject in memory at a time.

    Args:
        synthetic: As in ``scoring``.
        store: As there.
        split: As there.
        progress: Called with the number of subjects done and the name of the last.
        workers: As of ``Scoring.measure``.
        options: All others of ``scoring``.

    Raises:
        DataError: A subject has no volume, or a volume is on another grid or not in HU.
        UsageError: No such metric or split, or none of the metrics can be computed here.
        RunError: Another process is scoring these volumes.
    """
    with scoring(synthetic, store, split, **options) as work:
        work.measure(progress, workers)
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
        yield Scoring(
            synthetic, store, split, scored, files, missing, chosen, left_out, folder, records, shard, overwrite
        )


@contextmanager
def _own_folder(beside: Path, shard: str | None) -> Iterator[Path]:
    """Where the records lie: beside the volumes; for those that others own somewhere else, until all is done."""
    if shard is None and not os.access(beside, os.W_OK):
        log.warning("%s cannot be written to: measurements are not kept", beside)
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
        folder: Where the records lie.
        records: Records of each metric.
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
    folder: Path
    records: Mapping[str, Records]
    shard: str | None
    overwrite: bool

    def measure(self, progress: Callable[..., None] = lambda done, note="": None, workers: int | None = 1) -> int:
        """Measures what is not yet, or not of these very files and settings.

        Args:
            progress: Called with the number of subjects done and the name of the last.
            workers: Processes that measure what takes no network; their number does not change a byte. 1 works in
                this process; more import the main script, which must be made for that (see ``spawn`` in Python's
                multiprocessing). One for 8 subjects, at most the cores and 8, if None.

        Returns:
            The number of subjects that were measured.

        Raises:
            DataError: The only volume is on another grid or not in HU.
            RunError: Some of several volumes cannot be measured; the others are, and that is kept.
        """
        progress(0)
        made: set[str] = set()
        broken: dict[str, CTSynthError] = {}
        passes = self._passes(workers)
        for number, (task, processes) in enumerate(passes):
            cases = [Case(one, self.files[one.name]) for one in self.subjects if one.name not in broken]
            before = len(self.subjects) * number + len(broken)
            with closing(outcomes(task, cases, processes)) as finished:
                for done, (case, outcome) in enumerate(finished, start=1):
                    if isinstance(outcome, CTSynthError):
                        broken[case.subject.name] = outcome
                    elif outcome:
                        made.add(case.subject.name)
                    progress((before + done) // len(passes), case.subject.name)
        if broken:
            raise _several([broken[one.name] for one in self.subjects if one.name in broken], len(self.subjects))
        if self.shard:
            others = self.store.subjects("test" if self.split == "train" else "train")
            for metric in self.metrics.values():
                metric.ahead(take(others, self.shard))
        return len(made)

    def _passes(self, workers: int | None) -> list[tuple[Measuring, int]]:
        """What is done with every subject, and in how many processes: networks stay in this one."""
        count = workers or min(cores(), MOST_WORKERS, -(-len(self.subjects) // _A_WORKER))
        task = Measuring(replace(self.store, subjects_by_name={}), self.folder, self.metrics, self.overwrite)
        parts = [task.of(parallel=parallel) for parallel in (True, False)] if count > 1 else [task]
        return [(part, count if part.parallel else 1) for part in parts if part.metrics]

    def scores(self) -> Scores:
        """What all that was measured comes to.

        Raises:
            DataError: A record is gone or damaged.
        """
        origin = agreed(self.files.values())
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
            floor=self._reference("floor", "it takes slices of the other split"),
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


def _several(broken: Sequence[CTSynthError], total: int) -> CTSynthError:
    if total == 1:
        return broken[0]
    listed = "".join(f"\n  {error.message}" for error in broken)
    own = f"{broken[0].hint}; " if len(broken) == 1 and broken[0].hint else ""
    return RunError(
        f"{len(broken)} of {total} volumes cannot be scored:{listed}",
        hint=f"{own}then run the same command again: measurements are kept",
    )


def _name(origin: Mapping[str, Any], synthetic: Path) -> str:
    """What to call the volumes: their method, and for a model of tissues what they were drawn from."""
    method = str(origin.get("method") or base_name(synthetic))
    if not has_tissues(origin):
        return method
    return f"{method} from {'body' if origin.get('tissues') == 'none' else 'tissues'}"


def _named(name: str, result: Result) -> dict[str, Result]:
    return {name: result} | {f"{name}_{suffix}": variant for suffix, variant in result.variants.items()}
