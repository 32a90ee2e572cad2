"""Carries a study out: generators, sets, segmenters, each of them made once and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch

from ctsynth.augment import records
from ctsynth.augment.arms import DRAWN
from ctsynth.augment.cell_work import COPIES, CellWork
from ctsynth.augment.cells import Cell
from ctsynth.augment.mixing import TrainingSet
from ctsynth.augment.plan import Plan, Run
from ctsynth.augment.results import Results
from ctsynth.data.store import Store
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.files import read_json, sole, write_json
from ctsynth.schema import read
from ctsynth.shards import take
from ctsynth.stop import Stop, Stopped

RECORD = "study.json"
"""What the runs of a study's folder were made with."""

SCHEMA = 1


class _Copies(TypedDict):
    made_from: dict[str, Any]
    percent: dict[str, float]


@dataclass
class Study:
    """A plan on its way.

    Args:
        store: Real subjects.
        plan: The runs.
        out: The study's folder.
        device: Where to train and to draw.
        stop: Tells when to save and stop.
        overwrite: Make everything again.
    """

    store: Store
    plan: Plan
    out: Path
    device: torch.device
    stop: Stop
    overwrite: bool = False

    def begin(self) -> None:
        """Takes the folder, or that of the same study.

        Raises:
            UsageError: It is another study's, or holds a file of the user's in the place of the record.
        """
        path, content = self.out / RECORD, self.settings
        if path.exists():
            before = read_json(path)
            if not isinstance(before, dict) or before.keys() != content.keys():
                raise UsageError(f"{path}: not the record of a study", hint="name another `out`")
            for key, value in content.items():
                if before[key] != value and not self.overwrite:
                    raise UsageError(
                        f"{self.out}: the study there was made with {key} {before[key]}, not {value}",
                        hint="name another `out`, or begin again with `overwrite`",
                    )
        elif self.out.is_dir() and any(self.out.iterdir()):
            raise UsageError(f"{self.out}: a folder with other things in it", hint="name another `out`")
        write_json(path, content)

    @property
    def settings(self) -> dict[str, object]:
        """What all runs of the folder have in common."""
        return {"schema": SCHEMA, "store": self.store.digest, **self.plan.config.as_json()}

    def run(self, shard: str = "1/1", progress: Callable[..., None] = lambda done, note="": None) -> None:
        """Makes what is missing.

        Args:
            shard: I/N: every N-th cell, beginning with the I-th.
            progress: Called with the number of segmenters done, and a few words.

        Raises:
            Interrupted: A signal came; what was at hand is saved.
            RunError: A loss is not finite, or a file cannot be written.
        """
        cells = take(self.plan.cells, shard)
        runs = [run for cell in cells for run in self.plan.of_cell(cell)]
        done = 0
        try:
            for cell in cells:
                with sole(self.out / cell.folder / ".augment.lock"):
                    work = CellWork(self, cell, shard)
                    for run in self.plan.of_cell(cell):
                        progress(done, run.folder)
                        if self.overwrite or self.record(run) is None:
                            work.carry_out(run, partial(progress, done))
                        done += 1
                        progress(done, run.folder)
                    if self.plan.draws_volumes(cell) and self.copies(cell) is None:
                        work.count_copies()
        except Stopped:
            raise self.stop.interrupted(
                f"SIGNAL: {done} of {len(runs)} segmenters are done", "the same command goes on with the next"
            ) from None

    def training_sets(self) -> Iterator[tuple[Run, TrainingSet]]:
        """What each arm of each cell is trained on, made if need be; but for CutMix, which is no data."""
        for cell in self.plan.cells:
            with sole(self.out / cell.folder / ".augment.lock"):
                work = CellWork(self, cell, "1/1")
                for run in self.plan.of_cell(cell):
                    if run.seed == self.plan.config.seed and not run.arm.cutmix:
                        yield run, work.training_set(run)

    def record(self, run: Run) -> records.Record | None:
        """What is known of a run; None where it is not done, or not with these settings."""
        found = records.load(self.out / run.folder)
        return found if found and found["made_from"] == records.made_from(self.store, self.plan, run) else None

    def copies(self, cell: Cell) -> dict[str, float] | None:
        """Percent of copies among the synthetic slices of a cell, by set; None where they are not counted."""
        try:
            content = read(self.out / cell.folder / COPIES, _Copies)
        except DataError:
            return None
        return content["percent"] if content["made_from"] == self.copies_from(cell) else None

    def copies_from(self, cell: Cell) -> dict[str, Any]:
        """What decides that percentage."""
        kinds = {run.arm.others for run in self.plan.of_cell(cell) if run.arm.others in DRAWN}
        return {**self.settings, "train": list(cell.train), "sets": sorted(map(str, kinds))}

    def missing(self) -> list[Run]:
        """The runs that are not done."""
        return [run for run in self.plan.runs if self.record(run) is None]

    def results(self) -> Results:
        """What was found.

        Raises:
            RunError: A run is not done, or runs were not trained equally.
        """
        found = {run: self.record(run) for run in self.plan.runs}
        done = {run: record for run, record in found.items() if record is not None}
        if len(done) < len(found):
            raise RunError(f"{self.out}: {len(found) - len(done)} of {len(found)} runs are not done")
        records.refuse_unequal(done)
        generators = [*self.out.glob("generator"), *self.out.glob("fraction-*/draw-*/generator")]
        hours = sum(records.seconds_of(folder) for folder in generators) / 3600
        copies = {cell.folder: share for cell in self.plan.cells if (share := self.copies(cell)) is not None}
        return Results(self.store, self.plan, done, hours, copies)
