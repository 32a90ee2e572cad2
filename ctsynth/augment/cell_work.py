"""What is done in one cell of a study: a generator, sets of subjects and segmenters, each made once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ctsynth.augment import configs, records
from ctsynth.augment.cells import Cell
from ctsynth.augment.copies import share_of_copies
from ctsynth.augment.evaluate import mean_dice, measure
from ctsynth.augment.mixing import TrainingSet, view_of
from ctsynth.augment.plan import Run
from ctsynth.augment.pools import Pools
from ctsynth.augment.study import COPIES, Study
from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Subject
from ctsynth.errors import RunError, UsageError
from ctsynth.files import sole, write_json
from ctsynth.sampling.batches import SamplingConfig, resolve
from ctsynth.sampling.settings import SamplingSettings
from ctsynth.segmentation.trained import TrainedSegmenter
from ctsynth.shards import parse
from ctsynth.training import checkpoint
from ctsynth.training.loop import Trainer
from ctsynth.training.resume_check import refuse_other_settings
from ctsynth.training.run_folder import make_way

log = logging.getLogger(__name__)


@dataclass
class CellWork:
    """The work of one cell: its generator, its sets of subjects, its segmenters.

    Args:
        study: Whose cell it is.
        cell: The cell.
        shard: I/N of the process.
        tell: Called with a few words on what is trained.
    """

    study: Study
    cell: Cell
    shard: str
    tell: Callable[[str], None] = lambda note: None

    @cached_property
    def real(self) -> tuple[Subject, ...]:
        """Its training subjects."""
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
        self._train(folder, config, content.dataset(study.store), overwrite=study.overwrite)
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

    def count_copies(self) -> None:
        """Writes how many synthetic slices are copies, of the first dose of each set."""
        study, settings = self.study, self.study.plan.config
        training = self.real if settings.generator == "own" else study.store.subjects("train")
        made_from, percent = study.copies_from(self.cell), {}
        with study.stop.interruptible():
            for kind in made_from["sets"]:
                drawn = [subject for several in self.pools.others(kind, 1).values() for subject in several]
                test = study.store.subjects("test")
                percent[kind] = share_of_copies(drawn, training, test, study.store.window)
        write_json(study.out / self.cell.folder / COPIES, {"made_from": made_from, "percent": percent})

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
        if is_own or parse(self.shard)[0] == 1:
            overwrite = study.overwrite and (is_own or self.cell == study.plan.cells[0])
            self._train(folder, config, SliceDataset(view, "train"), overwrite=overwrite)
        elif not _is_trained(folder, config):
            raise RunError(
                f"{folder}: the generator of all subjects is not trained yet; the first task trains it",
                hint="start the other tasks when it is done",
            )
        trained = checkpoint.load(checkpoint.find(folder), study.device)
        sampling = SamplingSettings(steps=settings.steps, seed=settings.seed, precision=config.training.precision)
        return trained, resolve(sampling, trained.method, study.device)

    def _train(self, folder: Path, config: RunConfig, dataset: SliceDataset, *, overwrite: bool) -> None:
        study, name = self.study, folder.relative_to(self.study.out)
        with sole(folder / ".train.lock"):
            make_way(folder, resume=True, overwrite=overwrite or _is_other(folder, config))
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
    """Whether a run is at its last step.

    Raises:
        UsageError: It is one of other settings.
    """
    if not checkpoint.saved(folder) or checkpoint.step_of(checkpoint.find(folder)) != config.training.iterations:
        return False
    refuse_other_settings(RunConfig.read(folder / "config.json"), config, folder)
    return True
