"""One optimizer step of every phase of a model, on this rank's share of the batch; nothing here writes a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.device import Precision, autocast
from ctsynth.errors import UsageError
from ctsynth.labels import LabelSet
from ctsynth.randomness import BatchRNG, seed_of
from ctsynth.stop import Stop
from ctsynth.trainable import Batch, Phase, StepFake, TrainableModel
from ctsynth.training import checkpoint
from ctsynth.training.compile_blocks import compile_model, recompute_blocks
from ctsynth.training.distributed import ALONE, World, freeze_others, losses, synchronize_norms, unsynchronized
from ctsynth.training.ema import EMA
from ctsynth.training.log import LossTerms


class Stepper:
    """A model with its phases, optimizers and averaged weights, advanced one step at a time.

    Attributes:
        step: Steps done.
        terms: The loss terms of the steps since they were last read.
        config: With the learning rates and betas of the phases.

    Args:
        config: What to train.
        dataset: Training slices.
        device: Where.
        precision: ``bf16`` or ``fp32``.
        world: The ranks that train it together.

    Raises:
        UsageError: There are no slices, or the batch cannot be shared out.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: SliceDataset,
        *,
        device: torch.device,
        precision: Precision,
        world: World = ALONE,
    ) -> None:
        self.settings, self.dataset = config.training, dataset
        self.device, self.precision, self.world = device, precision, world
        self.settings.check_ranks(world.size, config.window)
        if len(dataset) == 0:
            raise UsageError(
                "the store has no training slices", hint="see its manifest.json; is there an imagesTr?"
            )
        self.model = checkpoint.make_model(config).to(device).train()
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
        self.terms = LossTerms(device, world)
        self.step, self._statistics_step = 0, -1
        if self.settings.compile:
            compile_model(self.model, device)
        if self.settings.checkpointing:
            recompute_blocks(self.model)

    def advance(self, stop: Stop) -> bool:
        """One optimizer step of every phase, and of the averages; False if a signal came before its end."""
        if not self._optimize(stop):
            return False
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        return True

    def go_on_at(self, step: int) -> None:
        """Counts on from a step whose weights, averages and optimizers have been loaded."""
        self.step = self._statistics_step = step

    @property
    def lr(self) -> float:
        """The learning rate of the last step, of the first phase."""
        return self.phases[0].lr * self._factor(self.step - 1)

    def take_statistics(self) -> None:
        """Recomputes the averaged weights' batch statistics, before the weights are saved or shown.

        They are always of the same batches, so that a step has one.
        """
        ema = self.ema
        if ema is None or self._statistics_step == self.step or not ema.has_statistics:
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

    def _optimize(self, stop: Stop) -> bool:
        """One optimizer step of every phase; False if a signal came while parts of the batch were still to do."""
        parts = self._parts()
        batch = self._batch([position for part in parts for position in part])
        if self.step + 1 < self.settings.iterations:
            self._read_ahead()
        batch = replace(batch, fake=StepFake() if len(parts) == 1 else None)
        before = [b.clone() for b in self.model.buffers()] if len(parts) > 1 else []
        logged = self.terms.state() if len(parts) > 1 and self.world.size == 1 else None
        for phase in self.phases:
            optimizer = self.optimizers[phase.name]
            optimizer.zero_grad(set_to_none=True)
            may_leave = phase is self.phases[0] and self.world.size == 1
            if not self._backward(phase, parts, batch, stop if may_leave else None):
                for buffer, value in zip(self.model.buffers(), before, strict=False):
                    buffer.copy_(value)  # the parts done have moved running statistics
                if logged is not None:
                    self.terms.restore(logged)
                return False
            for group in optimizer.param_groups:
                group["lr"] = phase.lr * self._factor(self.step)
            self._log(phase, {"grad_norm": _clip(phase, self.settings.clip_norm)})
            optimizer.step()
        self.terms.steps += 1
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
        self.terms.add(self.step + 1, {prefix + name: term for name, term in terms.items()}, weight)

    def _parts(self, ahead: int = 0) -> list[range]:
        """This rank's positions in the run's order of slices, one range a step of accumulation.

        They are those of this step, or of one so many steps ahead.
        """
        size = self.settings.batch_size
        part = size // self.settings.accumulate
        share = part // self.world.size
        first = (self.step + ahead) * size
        starts = range(first + self.world.rank * share, first + size, part)
        return [range(start, start + share) for start in starts]

    def _batch(self, positions: Sequence[int]) -> Batch:
        """The slices at these positions of the run's order, a share of them with the body as one class."""
        indices, strides = _slices(positions, self.model, self.settings.seed, self.dataset)
        batch = self.dataset.batch(indices, self.device, self.model.window, strides, self.model.label_context)
        if not self.labels.tissues:
            return batch
        seed, window = self.settings.seed, self.model.window
        rng = BatchRNG.at([("tissues", seed, position - position % window) for position in positions], self.device)
        is_joined = rng.uniform("dropout") < (self.settings.tissue_dropout if self.model.knows_tissues else 1)
        joined = batch.labels.clamp(max=self.labels.body_id)
        is_joined = is_joined.view(-1, *[1] * (joined.ndim - 1))
        return replace(batch, labels=torch.where(is_joined, joined, batch.labels))

    def _read_ahead(self) -> None:
        """Begins to read the next step's slices, for a disk may be as slow as the step."""
        positions = [position for part in self._parts(ahead=1) for position in part]
        indices, strides = _slices(positions, self.model, self.settings.seed, self.dataset)
        self.dataset.read_ahead(indices, self.model.window, strides, self.model.label_context)

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


def _slices(
    positions: Sequence[int], model: TrainableModel, seed: int, dataset: SliceDataset
) -> tuple[list[int], list[int] | None]:
    """The slices of the data set at these positions of the run's order, and the strides of their windows.

    Of a model with a window that order is one of windows, each at as many positions as it has slices.
    """
    starts = [position for position in positions if position % model.window == 0]
    indices = [index for start in starts for index in dataset.order(seed, start // model.window, 1)]
    if len(model.strides) == 1:
        return indices, None
    drawn = BatchRNG.at([("stride", seed, start) for start in starts], torch.device("cpu"))
    return indices, [model.strides[place] for place in drawn.integers("place", len(model.strides))]


def _clip(phase: Phase, largest: float) -> Tensor:
    """The norm of a phase's gradient before it is scaled down to ``largest`` (0: it is not); on the device."""
    gradients = [p.grad for p in phase.parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if largest:
        nn.utils.clip_grads_with_norm_(phase.parameters, largest, norm)
    return norm
