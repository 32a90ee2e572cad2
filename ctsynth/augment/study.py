"""Carries a study out: generators, sets, segmenters, each of them made once and found again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from ctsynth.augment import configs, records
from ctsynth.augment.cells import Cell
from ctsynth.augment.evaluate import mean_dice, measure
from ctsynth.augment.mixing import TrainingSet, view_of
from ctsynth.augment.plan import Plan, Run
from ctsynth.augment.pools import Pools
from ctsynth.augment.results import Results
from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Store, Subject
from ctsynth.errors import RunError, UsageError
from ctsynth.files import read_json, sole, write_json
from ctsynth.sampling.batches import SamplingConfig, pick_sampler
from ctsynth.segmentation.trained import TrainedSegmenter
from ctsynth.shards import parse, take
from ctsynth.stop import Stop, Stopped
from ctsynth.training import checkpoint
from ctsynth.training.loop import Trainer
from ctsynth.training.resume_check import refuse_other_settings
from ctsynth.training.run_folder import make_way

log = logging.getLogger(__name__)

RECORD = "study.json"
"""What the runs of a study's folder were made with."""

SCHEMA = 1


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
        if path.exists() and not self.overwrite:
            before = read_json(path)
            if not isinstance(before, dict) or before.keys() != content.keys():
                raise UsageError(f"{path}: not the record of a study", hint="name another --out")
            for key, value in content.items():
                if before[key] != value:
                    raise UsageError(
                        f"{self.out}: the study there was made with {key} {before[key]}, not {value}",
                        hint="name another --out, or begin again with --overwrite",
                    )
        elif not path.exists() and self.out.is_dir() and any(self.out.iterdir()):
            raise UsageError(f"{self.out}: a folder with other things in it", hint="name another --out")
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
                    work = _CellWork(self, cell, shard)
                    for run in self.plan.of_cell(cell):
                        progress(done, run.folder)
                        if self.overwrite or self.record(run) is None:
                            work.carry_out(run, partial(progress, done))
                        done += 1
                        progress(done, run.folder)
        except Stopped:
            raise self.stop.interrupted(
                f"SIGNAL: {done} of {len(runs)} segmenters are done", "the same command goes on with the next"
            ) from None

    def training_sets(self) -> Iterator[tuple[Run, TrainingSet]]:
        """What each arm of each cell is trained on, made if need be; but for CutMix, which is no data."""
        for cell in self.plan.cells:
            with sole(self.out / cell.folder / ".augment.lock"):
                work = _CellWork(self, cell, "1/1")
                for run in self.plan.of_cell(cell):
                    if run.seed == self.plan.config.seed and not run.arm.cutmix:
                        yield run, work.training_set(run)

    def record(self, run: Run) -> records.Record | None:
        """What is known of a run; None where it is not done, or not with these settings."""
        found = records.load(self.out / run.folder)
        return found if found and found["made_from"] == records.made_from(self.store, self.plan, run) else None

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
        return Results(self.store, self.plan, done, hours)


@dataclass
class _CellWork:
    """The work of one cell."""

    study: Study
    cell: Cell
    shard: str
    tell: Callable[[str], None] = lambda note: None

    @cached_property
    def real(self) -> tuple[Subject, ...]:
        return tuple(self.study.store.subjects_by_name[name] for name in self.cell.train)

    @cached_property
    def pools(self) -> Pools:
        """The sets of subjects beside the real ones."""
        study = self.study
        return Pools(study.out / self.cell.folder, study.store, study.plan.config, self.real, self.generator)

    def training_set(self, run: Run) -> TrainingSet:
        """What a segmenter is trained on."""
        kind, by_name = run.arm.others, self.study.store.subjects_by_name
        if kind is None:
            return TrainingSet(self.real)
        if kind == "further":
            further = self.cell.further[: run.dose * len(self.real)]
            return TrainingSet(self.real, further=tuple(by_name[name] for name in further))
        with self.study.stop.interruptible():
            return TrainingSet(self.real, self.pools.others(kind, run.dose), is_mixed=run.arm.real)

    def carry_out(self, run: Run, tell: Callable[[str], None]) -> None:
        """Trains a segmenter, chooses its checkpoint, measures it, and writes its record."""
        self.tell = tell
        study, folder = self.study, self.study.out / run.folder
        content = self.training_set(run)
        config = configs.segmenter_config(
            study.plan.config, content.view(study.store), run.arm, run.seed, study.device
        )
        self._train(folder, config, content.dataset(study.store))
        by_name = study.store.subjects_by_name
        validation = [by_name[name] for name in self.cell.validation]
        with study.stop.interruptible():
            dice = {
                path: mean_dice(self._segmenter(path), study.store, validation)
                for path in checkpoint.saved(folder)
            }
            chosen = max(dice, key=lambda path: (dice[path], path))
            segmenter = self._segmenter(chosen)
            measured = measure(segmenter, study.store, study.store.subjects("test"))
        records.save(
            folder,
            {
                "made_from": records.made_from(study.store, study.plan, run),
                "work": records.work_of(folder, study.device.type),
                "chosen": checkpoint.step_of(chosen),
                "validation": {str(checkpoint.step_of(path)): value for path, value in dice.items()},
                "weights_sha256": segmenter.settings["weights"],
                "seconds": records.seconds_of(folder),
                "measured": measured,
            },
        )
        for path in set(dice) - {chosen}:
            shutil.rmtree(path)
        checkpoint.point(folder, chosen)

    def _segmenter(self, path: Path) -> TrainedSegmenter:
        return TrainedSegmenter(path, self.study.device.type)

    def generator(self) -> tuple[checkpoint.Trained, SamplingConfig]:
        """The generator of the cell, trained if need be, and how it draws."""
        return self._generator

    @cached_property
    def _generator(self) -> tuple[checkpoint.Trained, SamplingConfig]:
        study, settings = self.study, self.study.plan.config
        is_own = settings.generator == "own"
        folder = (study.out / self.cell.folder if is_own else study.out) / "generator"
        subjects = self.real if is_own else study.store.subjects("train")
        view = view_of(study.store, subjects)
        config = configs.generator_config(
            settings, view, settings.seed + (self.cell.draw if is_own else 0), study.device
        )
        if not is_own and parse(self.shard)[0] != 1 and not _is_trained(folder, config):
            raise RunError(
                f"{folder}: the generator of all subjects is not trained yet; the first task trains it",
                hint="start the other tasks when it is done",
            )
        self._train(folder, config, SliceDataset(view, "train"))
        trained = checkpoint.load(checkpoint.find(folder), study.device)
        sampler = pick_sampler(trained.method, steps=settings.steps)
        sampling = SamplingConfig(
            sampler=sampler,
            seed=settings.seed,
            batch_size=4 if study.device.type == "cpu" else 16,
            device=study.device,
            precision=config.training.precision,
        )
        return trained, sampling

    def _train(self, folder: Path, config: RunConfig, dataset: SliceDataset) -> None:
        study, name = self.study, folder.relative_to(self.study.out)
        with sole(folder / ".train.lock"):
            make_way(folder, resume=True, overwrite=study.overwrite or _is_other(folder, config))
            trainer = Trainer(
                folder, config, dataset, None, device=study.device, precision=config.training.precision
            )
            trainer.train(study.stop, lambda done, note="": self.tell(f"{name}: step {done} {note}"))


def _is_other(folder: Path, config: RunConfig) -> bool:
    """Whether a run of the study's is one of an earlier plan with other settings, to be made again."""
    if not (folder / "config.json").is_file():
        return False
    try:
        refuse_other_settings(RunConfig.read(folder / "config.json"), config, folder)
    except UsageError as error:
        log.info("%s: made again", error.message)
        return True
    return False


def _is_trained(folder: Path, config: RunConfig) -> bool:
    """Whether a run is at its last step."""
    there = checkpoint.saved(folder)
    return bool(there) and checkpoint.step_of(there[-1]) == config.training.iterations
