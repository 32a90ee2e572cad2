"""One loop for all that learns: step, log, save, show; broken and resumed it equals the unbroken one, bit for bit.

On several ranks each does its share of every batch, and the first alone writes.
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ctsynth import figures
from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset, shuffled
from ctsynth.device import Precision, autocast
from ctsynth.errors import DataError, UsageError
from ctsynth.files import write_json
from ctsynth.labels import LabelSet
from ctsynth.randomness import BatchRNG, seed_of
from ctsynth.stop import Stop, Stopped
from ctsynth.trainable import Batch, Phase
from ctsynth.training import checkpoint, trainer_file, weights_file
from ctsynth.training.compile_blocks import compile_blocks, recompute_blocks
from ctsynth.training.distributed import (
    ALONE,
    Consensus,
    World,
    freeze_others,
    losses,
    synchronize_norms,
    unsynchronized,
)
from ctsynth.training.ema import EMA
from ctsynth.training.log import MetricsLog
from ctsynth.training.resume_check import refuse_other_settings
from ctsynth.training.sheet import SampleSheet

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
        self.run, self.settings, self.dataset, self.sheet = run, config.training, dataset, sheet
        self.device, self.precision, self.world = device, precision, world
        self._consensus = Consensus(world)
        self.settings.check_ranks(world.size)
        if len(dataset) == 0:
            raise UsageError(
                "the store has no training slices", hint="see its manifest.json; is there an imagesTr?"
            )
        self.model = checkpoint.make_model(config).to(device).train()
        if device.type == "cuda":
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = EMA(self.model, self.settings.ema) if world.is_first else None
        synchronize_norms(self.model, world, device)
        scale = self.settings.lr / self.model.lr if self.settings.lr else 1.0
        self.phases = [
            replace(phase, lr=phase.lr * scale, betas=self.settings.betas or phase.betas)
            for phase in self.model.phases()
        ]
        rates = {phase.name: {"lr": phase.lr, "betas": phase.betas} for phase in self.phases}
        self.config = replace(config, phases=rates)
        self.optimizers = {
            phase.name: torch.optim.Adam(phase.parameters, lr=phase.lr, betas=phase.betas, fused=True)
            for phase in self.phases
        }
        self.losses = losses(self.model, self.phases, world)
        self.labels = LabelSet.from_json(config.labels)
        self.log = MetricsLog(run / "metrics.jsonl", device, world)
        self.step = 0
        self._saved_step = self._statistics_step = -1
        if world.agree(world.is_first and ((run / "config.json").exists() or bool(checkpoint.saved(run)))):
            self._resume()
        if self.settings.compile:
            compile_blocks(self.model)
        if self.settings.checkpointing:
            recompute_blocks(self.model)

    def train(self, stop: Stop, progress: Callable[..., None] = lambda done, note="": None) -> None:
        """Runs to the last iteration.

        Raises:
            Interrupted: A signal came and the run was saved.
            RunError: A loss is not finite, or a checkpoint cannot be written.
        """
        if self.world.is_first:
            checkpoint.clear_leftovers(self.run)
            write_json(self.run / "config.json", self.config.as_json())
        progress(min(self.step, self.settings.iterations), "")
        if self.step >= self.settings.iterations:
            log.info("%s is at step %d: nothing to do", self.run, self.step)
        self._show(stop)
        while self.step < self.settings.iterations:
            if _heed(stop, self._consensus(stop.requested or 0)) or not self.advance(stop):
                self._halt(stop)
            last = self.step == self.settings.iterations
            due = last or self.step % self.settings.log_every == 0
            if due or self.device.type == "cpu":  # reading a GPU's numbers at each step would make it wait
                self.log.check(partial(checkpoint.saved, self.run))
            if due:
                row = self.log.write(self.step, self._rate(self.step), self.settings.batch_size, len(self.dataset))
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

    def advance(self, stop: Stop) -> bool:
        """One optimizer step of every phase, and of the averages; False if a signal came before its end."""
        if not self._optimize(stop):
            return False
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        return True

    def _optimize(self, stop: Stop) -> bool:
        """One optimizer step of every phase; False if a signal came while parts of the batch were still to do."""
        parts = self._parts()
        batch = self._batch([position for part in parts for position in part])
        shared: dict[str, Tensor] | None = {} if len(parts) == 1 else None
        batch = replace(batch, shared=shared)
        before = [b.clone() for b in self.model.buffers()] if len(parts) > 1 else []
        logged = self.log.state() if len(parts) > 1 and self.world.size == 1 else None
        for phase in self.phases:
            optimizer = self.optimizers[phase.name]
            optimizer.zero_grad(set_to_none=True)
            may_leave = phase is self.phases[0] and self.world.size == 1
            if not self._backward(phase, parts, batch, stop if may_leave else None):
                for buffer, value in zip(self.model.buffers(), before, strict=False):
                    buffer.copy_(value)  # the parts done have moved running statistics
                if logged is not None:
                    self.log.restore(logged)
                return False
            for group in optimizer.param_groups:
                group["lr"] = phase.lr * self._factor(self.step)
            self._log(phase, {"grad_norm": _clip(phase, self.settings.clip_norm)})
            optimizer.step()
        self.log.steps += 1
        return True

    def _backward(self, phase: Phase, parts: list[range], batch: Batch, stop: Stop | None) -> bool:
        """The gradient of a phase, part by part; False if a signal came before the last."""
        if len(self.phases) > 1:
            freeze_others(self.model, phase)
        loss, pieces = self.losses[phase.name], list(zip(parts, batch.split(len(parts)), strict=True))
        totals = self._totals(phase, pieces)
        for number, (part, some) in enumerate(pieces):
            if stop is not None and stop.requested:
                return False
            with unsynchronized(loss, until_later=number < len(parts) - 1):
                with autocast(self.device, self.precision):
                    terms = loss(replace(some, totals=totals), self._draws(phase.name, part))
                (terms["loss"] / len(parts)).backward()
            self._log(phase, terms, 1 / len(parts))
        return True

    def _log(self, phase: Phase, terms: dict[str, Tensor], weight: float = 1.0) -> None:
        prefix = f"{phase.name}_" if len(self.phases) > 1 else ""
        self.log.add(self.step + 1, {prefix + name: term for name, term in terms.items()}, weight)

    def _parts(self) -> list[range]:
        """This rank's positions in the run's order of slices at this step, one range a step of accumulation."""
        size = self.settings.batch_size
        part = size // self.settings.accumulate
        share = part // self.world.size
        starts = range(self.step * size + self.world.rank * share, (self.step + 1) * size, part)
        return [range(start, start + share) for start in starts]

    def _batch(self, positions: Sequence[int]) -> Batch:
        """The slices at these positions of the run's order, a share of them with the body as one class."""
        seed = self.settings.seed
        indices = [index for position in positions for index in shuffled(len(self.dataset), seed, position, 1)]
        batch = self.dataset.batch(indices, self.device)
        if not self.labels.tissues:
            return batch
        rng = BatchRNG.at([("tissues", seed, position) for position in positions], self.device)
        is_joined = rng.uniform("dropout") < (self.settings.tissue_dropout if self.model.knows_tissues else 1)
        joined = batch.labels.clamp(max=self.labels.body_id)
        return replace(batch, labels=torch.where(is_joined[:, None, None], joined, batch.labels))

    def _draws(self, phase: str, part: range) -> BatchRNG:
        keys = [("train", self.settings.seed, phase, position) for position in part]
        torch.manual_seed(seed_of(*keys[0]))  # for what a plug-in does not draw by these
        return BatchRNG.at(keys, self.device, group=("train", self.settings.seed, phase, "step", self.step))

    def _totals(self, phase: Phase, pieces: list[tuple[range, Batch]]) -> Tensor | None:
        """``TrainableModel.totals`` of the whole batch; None where there is one piece of it."""
        if len(pieces) * self.world.size == 1:
            return None
        with torch.no_grad(), autocast(self.device, self.precision):
            found = [self.model.totals(phase.name, some, self._draws(phase.name, part)) for part, some in pieces]
        sums = [totals for totals in found if totals is not None]
        return self.world.total(torch.stack(sums).sum(0)) if sums else None

    def _factor(self, step: int) -> float:
        """What the learning rate is multiplied by at this step, the first being 0."""
        factor = min(1.0, (step + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        if self.settings.lr_schedule == "cosine":
            factor *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.settings.iterations)))
        return factor

    def _rate(self, step: int) -> float:
        return self.phases[0].lr * self._factor(step - 1)

    def _save(self) -> None:
        self.log.check(partial(checkpoint.saved, self.run))
        log_state = self.log.state()
        if self.ema is not None:
            self._take_statistics(self.ema)
            self._write(self.ema, log_state)
        self.world.wait()
        self._saved_step = self.step
        self.log.restart_clock()

    def _write(self, ema: EMA, log_state: dict[str, Any]) -> None:
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        state = {"step": self.step, "optimizers": optimizers, "log": log_state}
        checkpoint.save(self.run, self.step, self.model, ema.model, self.config, state)
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
        if path is None or self.sheet is None or self.ema is None:
            return
        self._take_statistics(self.ema)
        try:
            with stop.interruptible():
                self.sheet.draw(self.ema.model, path, self.step, self.settings.iterations)
        except Stopped:
            return  # the resumed run draws it
        figures.loss_curve(self.log.rows(), self.run / "loss.png")
        self.log.restart_clock()

    def _take_statistics(self, ema: EMA) -> None:
        """Before the averaged weights are saved or shown; always from the same batches, so that a step has one."""
        if self._statistics_step == self.step or not ema.has_statistics:
            return
        size, seed = self.settings.batch_size, self.settings.seed

        def batches() -> Iterator[tuple[Batch, BatchRNG]]:
            for number in range(self.settings.norm_batches):
                positions = range(number * size, (number + 1) * size)
                keys = [("statistics", seed, position) for position in positions]
                yield self._batch(positions), BatchRNG.at(keys, self.device)

        if self.settings.norm_batches:
            with autocast(self.device, self.precision):
                ema.take_statistics(batches())
        self._statistics_step = self.step

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
                f"{self.run}: none of its {len(there)} checkpoints can be read", hint="begin another run: --out"
            )
        if found >= 0 and not self.world.is_first and not self._load(checkpoint.path_of(self.run, found)):
            raise DataError(f"{self.run}: step {found} can be read on rank 0 and not on {self.world.rank}")
        if whole is not None:
            checkpoint.point(self.run, whole)  # it may name a damaged one, or the one before
        self.log.forget_after(self.step)

    def _load(self, path: Path) -> bool:
        """Takes up a checkpoint; False, with a warning, if it is damaged."""
        try:
            refuse_other_settings(checkpoint.verify(path), self.config, path)
            trainer = trainer_file.load(path / trainer_file.NAME, checkpoint.step_of(path), self.optimizers)
            weights_file.load(self.model, path / "model.safetensors")
            if self.ema is not None:
                weights_file.load(self.ema.model, path / "ema.safetensors")
        except (DataError, UsageError) as error:
            log.warning("%s: trying the checkpoint before it", error.message)
            return False
        trainer_file.restore(trainer, self.optimizers)
        self.step = self._saved_step = self._statistics_step = trainer["step"]
        self.log.restore(trainer.get("log", {}))
        if self.world.is_first:
            log.info("continuing %s at step %d", self.run, self.step)
        return True


def _heed(stop: Stop, number: int) -> bool:
    """Whether a signal has come to any rank; this one then stops for it."""
    if number:
        stop.requested = signal.Signals(number)
    return bool(number)


def _clip(phase: Phase, largest: float) -> Tensor:
    """The norm of a phase's gradient before it is scaled down to ``largest`` (0: it is not); on the device."""
    gradients = [p.grad for p in phase.parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if largest:
        nn.utils.clip_grads_with_norm_(phase.parameters, largest, norm)
    return norm
