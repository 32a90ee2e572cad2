"""A study's folder: whose it is, which runs are done, what they found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch

from ctsynth.augment import records
from ctsynth.augment.arms import DRAWN
from ctsynth.augment.cells import Cell
from ctsynth.augment.plan import Plan, Run
from ctsynth.augment.results import Results
from ctsynth.data.store import Store
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.files import read_json, write_json
from ctsynth.schema import Range, read
from ctsynth.stop import Stop

RECORD = "study.json"
"""What the runs of a study's folder were made with."""

COPIES = "copies.json"
"""How many synthetic slices of a cell are copies."""

SCHEMA = 1


class _Copies(TypedDict):
    made_from: dict[str, Any]
    percent: dict[str, Annotated[float, Range(0, 100)]]


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
        held = {file.name for file in self.out.iterdir()} if self.out.is_dir() else set()
        if path.exists():  # after the listing: another task of an array may begin meanwhile, and writes this first
            before = read_json(path)
            if not isinstance(before, dict) or before.keys() != content.keys():
                raise UsageError(f"{path}: not the record of a study", hint="name another `out`")
            for key, value in content.items():
                if before[key] != value and not self.overwrite:
                    raise UsageError(
                        f"{self.out}: the study there was made with {key} {before[key]}, not {value}",
                        hint="name another `out`, or begin again with `overwrite`",
                    )
        elif any(not name.startswith(".partial-") for name in held):
            raise UsageError(f"{self.out}: a folder with other things in it", hint="name another `out`")
        write_json(path, content)

    @property
    def settings(self) -> dict[str, object]:
        """What all runs of the folder have in common."""
        return {"schema": SCHEMA, "store": self.store.digest, **self.plan.config.as_json()}

    def record(self, run: Run) -> records.Record | None:
        """What is known of a run; None where it is not done, or not with these settings."""
        found = records.load(self.out / run.folder)
        if not found or found["made_from"] != records.made_from(self.store, self.plan, run):
            return None
        return found if records.is_complete(found, self.store) else None

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
