"""The loop of a training run and its files: step, log, save, show.

Broken and resumed it equals the unbroken one, bit for bit. On several ranks the first alone writes.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from ctsynth import figures
from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.device import Precision
from ctsynth.errors import DataError, UsageError
from ctsynth.files import write_json
from ctsynth.stop import Stop, Stopped
from ctsynth.training import checkpoint, trainer_file, weights_file
from ctsynth.training.distributed import ALONE, Consensus, World
from ctsynth.training.ema import EMA
from ctsynth.training.log import MetricsLog
from ctsynth.training.resume_check import refuse_other_settings
from ctsynth.training.sheet import SampleSheet
from ctsynth.training.start import begin
from ctsynth.training.stepper import Stepper
from ctsynth.training.tensorboard import Curves

log = logging.getLogger(__name__)


class Trainer:
    """Trains one run.

    Args:
        run: The run's folder; a run that is there already is continued.
        config: What to train.
        dataset: Training slices.
        sheet: Draws the sample sheets; None draws none.
        device: Where.
        precision: ``bf16`` or ``fp32``.
        world: The ranks that train it together.

    Raises:
        UsageError: The run there was made with other settings, or the batch cannot be shared out.
    """

    def __init__(
        self,
        run: Path,
        config: RunConfig,
        dataset: SliceDataset,
        sheet: SampleSheet | None,
        *,
        device: torch.device,
        precision: Precision,
        world: World = ALONE,
    ) -> None:
        self.run, self.settings, self.sheet, self.world = run, config.training, sheet, world
        self.stepper = Stepper(config, dataset, device=device, precision=precision, world=world)
        self.config = self.stepper.config
        self.log = MetricsLog(run / "metrics.jsonl", self.stepper.terms, world)
        self._consensus = Consensus(world)
        self._saved_step = -1
        if config.start and not world.agree(world.is_first and bool(checkpoint.saved(run))):
            for model in (self.stepper.model, *([self.stepper.ema.model] if self.stepper.ema else [])):
                begin(model, config.start)
        if world.agree(world.is_first and ((run / "config.json").exists() or bool(checkpoint.saved(run)))):
            self._resume()

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.stepper.step

    def train(self, stop: Stop, progress: Callable[..., None] = lambda done, note="": None) -> None:
        """Runs to the last iteration.

        Raises:
            Interrupted: A signal came and the run was saved.
            RunError: A loss is not finite, or a checkpoint cannot be written.
        """
        if self.world.is_first:
            checkpoint.clear_leftovers(self.run)
            write_json(self.run / "config.json", self.config.as_json())
        curves = Curves(self.run, self.step) if self.world.is_first and self.settings.tensorboard else None
        progress(min(self.step, self.settings.iterations), "")
        if self.step >= self.settings.iterations:
            log.info("%s is at step %d: nothing to do", self.run, self.step)
        self._show(stop)
        while self.step < self.settings.iterations:
            if _heed(stop, self._consensus(stop.requested or 0)) or not self.stepper.advance(stop):
                self._halt(stop)
            last = self.step == self.settings.iterations
            due = last or self.step % self.settings.log_every == 0
            if due or self.stepper.device.type == "cpu":  # reading a GPU's numbers at each step would make it wait
                self.stepper.terms.check(partial(checkpoint.saved, self.run))
            if due:
                row = self.log.write(
                    self.step, self.stepper.lr, self.settings.batch_size, len(self.stepper.dataset)
                )
                if curves is not None:
                    curves.add(row)
                progress(self.step, f"loss {row['loss']:.4f}")
            if last or self.step % self.settings.save_every == 0:
                self._save()
            self._show(stop)
        if self._saved_step != self.step:
            self._save()
        if _heed(stop, self.world.agree(stop.requested or 0)) and self.world.agree(self._due() is not None):
            self._halt(stop)
        if self.world.is_first:
            figures.loss_curve(self.log.rows(), self.run / "loss.png")

    def _save(self) -> None:
        self.stepper.terms.check(partial(checkpoint.saved, self.run))
        log_state = self.stepper.terms.state()
        self.stepper.take_statistics()
        if self.stepper.ema is not None:
            self._write(self.stepper.ema, log_state)
        self.world.wait()
        self._saved_step = self.step
        self.log.restart_clock()

    def _write(self, ema: EMA, log_state: dict[str, Any]) -> None:
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.stepper.optimizers.items()}
        state = {"step": self.step, "optimizers": optimizers, "log": log_state}
        checkpoint.save(self.run, self.step, self.stepper.model, ema.model, self.config, state)
        checkpoint.prune(self.run, self.step, self.settings.keep_every)

    def _due(self) -> Path | None:
        """The sample sheet that this step should have and has not."""
        last = self.step == self.settings.iterations
        path = self.run / "samples" / f"step_{self.step:09d}.png"
        wanted = self.step > 0 and (last or self.step % self.settings.sample_every == 0)
        return path if self.sheet is not None and wanted and not path.exists() else None

    def _show(self, stop: Stop) -> None:
        """Draws the sample sheet and loss.png when they are due and not there."""
        path = self._due()
        if path is None or self.sheet is None or self.stepper.ema is None:
            return
        self.stepper.take_statistics()
        try:
            with stop.interruptible():
                self.sheet.draw(self.stepper.ema.model, path, self.step, self.settings.iterations)
        except Stopped:
            return  # the resumed run draws it
        figures.loss_curve(self.log.rows(), self.run / "loss.png")
        self.log.restart_clock()

    def _halt(self, stop: Stop) -> NoReturn:
        if self._saved_step != self.step:
            self._save()
        raise stop.interrupted(
            f"SIGNAL at step {self.step}: saved {self.run}", "the same command continues the run"
        )

    def _resume(self) -> None:
        refuse_other_settings(RunConfig.read(self.run / "config.json"), self.config, self.run)
        there = checkpoint.saved(self.run)
        whole = next((path for path in reversed(there) if self._load(path)), None) if self.world.is_first else None
        found = self.world.agree(checkpoint.step_of(whole) if whole else -1)
        if there and found < 0:
            raise DataError(
                f"{self.run}: none of its {len(there)} checkpoints can be read", hint="begin another run: `out`"
            )
        if found >= 0 and not self.world.is_first and not self._load(checkpoint.path_of(self.run, found)):
            raise DataError(f"{self.run}: step {found} can be read on rank 0 and not on {self.world.rank}")
        if whole is not None:
            checkpoint.point(self.run, whole)  # it may name a damaged one, or the one before
        self.log.forget_after(self.step)

    def _load(self, path: Path) -> bool:
        """Loads a checkpoint; False, with a warning, if it is damaged."""
        try:
            refuse_other_settings(checkpoint.verify(path), self.config, path)
            trainer = trainer_file.load(
                path / trainer_file.NAME, checkpoint.step_of(path), self.stepper.optimizers
            )
            weights_file.load(self.stepper.model, path / "model.safetensors")
            if self.stepper.ema is not None:
                weights_file.load(self.stepper.ema.model, path / "ema.safetensors")
        except (DataError, UsageError) as error:
            log.warning("%s: trying the checkpoint before it", error.message)
            return False
        trainer_file.restore(trainer, self.stepper.optimizers)
        self.stepper.go_on_at(trainer["step"])
        self._saved_step = self.step
        self.stepper.terms.restore(trainer.get("log", {}))
        self.log.restart_clock()
        if self.world.is_first:
            log.info("continuing %s at step %d", self.run, self.step)
        return True


def _heed(stop: Stop, number: int) -> bool:
    """Whether a signal has come to any rank; this one then stops for it."""
    if number:
        stop.requested = signal.Signals(number)
    return bool(number)
