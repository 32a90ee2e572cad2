"""The averaged weights that are sampled from."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch

from ctsynth import compat
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch, TrainableModel


class EMA:
    """An exponential moving average of a model's weights, with warm-up.

    The decay at a step is min(decay, (1 + step) / (10 + step)). Without the warm-up, a decay of 0.9999 keeps 37 %
    of the random start at 10,000 steps, and samples are noise.

    Args:
        model: What is averaged; the average begins as a copy of it.
        decay: Decay a step.
    """

    def __init__(self, model: TrainableModel, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: TrainableModel, step: int) -> None:
        """Moves the average toward the model after step ``step`` (the first is 1); buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        compat.lerp_each_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for average, value in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(value)

    @property
    def has_statistics(self) -> bool:
        """Whether there is batch normalization; its statistics are the raw weights' until recomputed."""
        return any(compat.is_batch_norm(module) for module in self.model.modules())

    @torch.no_grad()
    def take_statistics(self, batches: Iterable[tuple[Batch, BatchRNG]]) -> None:
        """Recomputes batch normalization's statistics for the averaged weights: their mean over these batches.

        As OASIS does (its update_EMA), and as torch.optim.swa_utils.update_bn. Spectral norms iterate along.

        Args:
            batches: Slices with their label maps, and what to draw with.
        """
        keepers = [module for module in self.model.modules() if list(module.buffers(recurse=False))]
        momentum = {module: module.momentum for module in keepers if compat.is_batch_norm(module)}
        for module in keepers:  # and no others: dropout stays off
            module.train()
        for norm in momentum:
            norm.momentum = None  # a plain mean
            norm.reset_running_stats()
        for batch, rng in batches:
            self.model.predict(batch, rng)
        for norm, before in momentum.items():
            norm.momentum = before
        self.model.eval()
