"""One loop for every method: step, log, save, show; broken and resumed it equals the unbroken one, bit for bit."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ctsynth import figures
from ctsynth.batch import Batch
from ctsynth.config import MAY_CHANGE, RunConfig
from ctsynth.data.loader import SliceDataset, shuffled
from ctsynth.device import Precision, autocast
from ctsynth.errors import DataError, Interrupted, RunError, UsageError
from ctsynth.files import write_json, write_text
from ctsynth.methods.base import Phase
from ctsynth.randomness import Draws, seed_of
from ctsynth.stop import Stop, Stopped
from ctsynth.training import checkpoint
from ctsynth.training.ema import EMA
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

    Raises:
        UsageError: The run there was made with other settings.
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
    ) -> None:
        self.run, self.settings, self.dataset, self.sheet = run, config.training, dataset, sheet
        self.device, self.precision = device, precision
        if len(dataset) == 0:
            raise UsageError(
                "the store has no training slices", hint="see its manifest.json; is there an imagesTr?"
            )
        self.model = checkpoint.make_method(config).to(device).train()
        if device.type == "cuda":
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = EMA(self.model, self.settings.ema)
        self.phases = [
            replace(phase, lr=self.settings.lr or phase.lr, betas=self.settings.betas or phase.betas)
            for phase in self.model.phases()
        ]
        rates = {phase.name: {"lr": phase.lr, "betas": phase.betas} for phase in self.phases}
        self.config = replace(config, phases=rates)
        self.optimizers = {
            phase.name: torch.optim.Adam(phase.parameters, lr=phase.lr, betas=phase.betas, fused=True)
            for phase in self.phases
        }
        self.log = _Log(run / "metrics.jsonl", device)
        self.step = 0
        self._saved_step = -1
        if (run / "config.json").exists() or checkpoint.saved(run):
            self._resume()
        if self.settings.compile:
            for child in self.model.children():
                child.compile()

    def train(self, stop: Stop, progress: Callable[..., None] = lambda done, note="": None) -> None:
        """Runs to the last iteration.

        Raises:
            Interrupted: A signal came and the run was saved.
            RunError: A loss is not finite, or a checkpoint cannot be written.
        """
        checkpoint.clear_leftovers(self.run)
        write_json(self.run / "config.json", self.config.as_json())
        progress(self.step, "")
        self._show(stop)
        while self.step < self.settings.iterations:
            if stop.requested or not self._optimize(stop):
                self._halt(stop)
            self.step += 1
            self.ema.update(self.model, self.step)
            last = self.step == self.settings.iterations
            due = last or self.step % self.settings.log_every == 0
            if due or self.device.type == "cpu":  # reading a GPU's numbers at each step would make it wait
                self.log.check(checkpoint.saved(self.run))
            if due:
                row = self.log.write(self.step, self._rate(self.step), self.settings.batch_size, len(self.dataset))
                progress(self.step, f"loss {row['loss']:.4f}")
            if last or self.step % self.settings.save_every == 0:
                self._save()
            self._show(stop)
        if self._saved_step != self.step:
            self._save()
        figures.loss_curve(self.log.rows(), self.run / "loss.png")

    def _optimize(self, stop: Stop) -> bool:
        """One optimizer step of every phase; False if a signal came while parts of the batch were still to do."""
        size = self.settings.batch_size
        positions = list(range(self.step * size, (self.step + 1) * size))
        batch = self.dataset.batch(
            shuffled(len(self.dataset), self.settings.seed, positions[0], size), self.device
        )
        part = size // self.settings.accumulate
        buffers = [b.clone() for b in self.model.buffers()] if self.settings.accumulate > 1 else []
        for phase in self.phases:
            if len(self.phases) > 1:
                self.model.requires_grad_(False)
                for parameter in phase.parameters:
                    parameter.requires_grad_(True)
            optimizer = self.optimizers[phase.name]
            optimizer.zero_grad(set_to_none=True)
            for first in range(0, size, part):
                if stop.requested and phase is self.phases[0]:
                    for buffer, before in zip(self.model.buffers(), buffers, strict=False):
                        buffer.copy_(before)  # the parts done have moved running statistics
                    return False
                rows = slice(first, first + part)
                keys = [("train", self.settings.seed, phase.name, at) for at in positions[rows]]
                torch.manual_seed(seed_of(*keys[0]))  # for layers that draw for themselves, such as dropout
                with autocast(self.device, self.precision):
                    some = Batch(batch.image[rows], batch.labels[rows])
                    terms = self.model.loss(phase.name, some, Draws.at(keys, self.device))
                (terms["loss"] / self.settings.accumulate).backward()
                prefix = f"{phase.name}_" if len(self.phases) > 1 else ""
                self.log.add(self.step + 1, {prefix + name: term for name, term in terms.items()}, part / size)
            for group in optimizer.param_groups:
                group["lr"] = phase.lr * self._factor(self.step)
            self.log.add(self.step + 1, {f"{prefix}grad_norm": _clip(phase, self.settings.clip_norm)})
            optimizer.step()
        self.log.steps += 1
        return True

    def _factor(self, step: int) -> float:
        """What the learning rate is multiplied by at this step, the first being 0."""
        factor = min(1.0, (step + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        if self.settings.lr_schedule == "cosine":
            factor *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.settings.iterations)))
        return factor

    def _rate(self, step: int) -> float:
        return self.phases[0].lr * self._factor(step - 1)

    def _save(self) -> None:
        self.log.check(checkpoint.saved(self.run))
        state = {"step": self.step, "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()}}
        checkpoint.save(self.run, self.step, self.model, self.ema.model, self.config, state)
        checkpoint.prune(self.run, self.settings.keep_every)
        self._saved_step = self.step
        self.log.restart_clock()

    def _show(self, stop: Stop) -> None:
        """Draws the sample sheet and loss.png when they are due and not there."""
        last = self.step == self.settings.iterations
        path = self.run / "samples" / f"step_{self.step:09d}.png"
        if (
            self.sheet is None
            or self.step == 0
            or path.exists()
            or not (last or self.step % self.settings.sample_every == 0)
        ):
            return
        try:
            with stop.interruptible():
                self.sheet.draw(self.ema.model, path, self.step, self.settings.iterations)
        except Stopped:
            self._halt(stop)  # the resumed run draws it
        figures.loss_curve(self.log.rows(), self.run / "loss.png")
        self.log.restart_clock()

    def _halt(self, stop: Stop) -> NoReturn:
        if self._saved_step != self.step:
            self._save()
        assert stop.requested is not None
        raise Interrupted(
            f"{stop.requested.name} at step {self.step}: saved {self.run}",
            hint="the same command continues the run",
        )

    def _resume(self) -> None:
        _refuse_other_settings(RunConfig.read(self.run / "config.json"), self.config, self.run)
        for path in reversed(checkpoint.saved(self.run)):
            try:
                trainer = checkpoint.load_trainer(path)
                checkpoint.load_weights(self.model, path / "model.safetensors")
                checkpoint.load_weights(self.ema.model, path / "ema.safetensors")
            except DataError as error:
                log.warning("%s: trying the checkpoint before it", error.message)
                continue
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(trainer["optimizers"][name])
            self.step = self._saved_step = int(trainer["step"])
            log.info("continuing %s at step %d", self.run, self.step)
            break
        else:
            if there := checkpoint.saved(self.run):
                raise DataError(
                    f"{self.run}: none of its {len(there)} checkpoints can be read",
                    hint="begin another run: --out",
                )
        self.log.forget_after(self.step)


def _clip(phase: Phase, largest: float) -> Tensor:
    """The norm of a phase's gradient before it is scaled down to ``largest`` (0: it is not); on the device."""
    gradients = [p.grad for p in phase.parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if largest:
        nn.utils.clip_grads_with_norm_(phase.parameters, largest, norm)
    return norm


def _refuse_other_settings(before: RunConfig, now: RunConfig, run: Path) -> None:
    """A run is continued with what it was begun with, or not at all."""

    def flat(config: RunConfig) -> dict[str, Any]:
        content = config.as_json()
        training = {key: value for key, value in content.pop("training").items() if key not in MAY_CHANGE}
        options = content.pop("options")
        ignored = {"version", "schema", "preset", "phases"}
        data = content.pop("data").get("digest")
        return {k: v for k, v in content.items() if k not in ignored} | training | options | {"data": data}

    old, new = flat(before), flat(now)
    changed = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    if changed:
        what = ", ".join(
            f"{key} {_brief(old.get(key))} there, {_brief(new.get(key))} here" for key in sorted(changed)[:3]
        )
        raise UsageError(
            f"{run} was trained with other settings: {what}", hint="choose another run: --out runs/NAME"
        )


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


class _Log:
    """metrics.jsonl: one row every ``log_every`` steps, its terms averaged on the device until then."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.steps = 0
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
        self._first_bad = torch.tensor(math.inf, device=device)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves what was done since the last row out of images_per_s."""
        self._since, self._steps_before = time.perf_counter(), self.steps

    def add(self, step: int, terms: dict[str, Tensor], weight: float = 1.0) -> None:
        """Adds the terms of a step, or of a part of its batch."""
        for name, term in terms.items():
            value = term.detach().float()
            self._sums[name] += value * weight
            self._first_bad = torch.where(torch.isfinite(value), self._first_bad, self._first_bad.clamp(max=step))

    def check(self, saved: list[Path]) -> None:
        """Stops the run if a term has not been finite.

        Raises:
            RunError: It names the step and the last good checkpoint.
        """
        step = self._first_bad.item()
        if step == math.inf:
            return
        bad = sorted(name for name, total in self._sums.items() if not math.isfinite(total.item()))
        good = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        raise RunError(
            f"{', '.join(bad)} not finite at step {step:.0f}: stopped; {good}",
            hint="lower --lr or say --precision fp32; the same command continues from that checkpoint",
        )

    def write(self, step: int, lr: float, batch_size: int, dataset_size: int) -> dict[str, float]:
        """Writes the row of this step and begins the next."""
        elapsed = time.perf_counter() - self._since
        row: dict[str, float] = {"step": step, "epoch": round(step * batch_size / dataset_size, 3)}
        row |= {name: total.item() / max(self.steps, 1) for name, total in self._sums.items()}
        row.setdefault("loss", sum(value for name, value in row.items() if name.endswith("_loss")))
        row |= {"lr": lr, "images_per_s": (self.steps - self._steps_before) * batch_size / max(elapsed, 1e-9)}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot write it: {error.strerror}", hint="free some space; the same command goes on"
            ) from error
        self.steps = 0
        self._sums.clear()
        self.restart_clock()
        return row

    def rows(self) -> list[dict[str, float]]:
        """Every row so far."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [dict(json.loads(line)) for line in lines]

    def forget_after(self, step: int) -> None:
        """Drops the rows of steps that a resumed run does again, and a line that was broken off."""
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            whole = [line for line in lines if line.endswith("}")]
            write_text(self.path, "".join(f"{line}\n" for line in whole if json.loads(line)["step"] <= step))
