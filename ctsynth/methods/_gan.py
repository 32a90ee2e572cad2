"""What the GANs share: how long they train, and how a judgment becomes a loss."""

from __future__ import annotations

from ctsynth.errors import UsageError

PAPER_TRAINING = {"epochs": 300}
"""The paper's; at its 26,069 slices and batch 16, 488,794 iterations."""

SMALL_TRAINING = {
    "iterations": 20_000, "batch_size": 8, "ema": 0.999,
    "save_every": 1000, "keep_every": 5000, "sample_every": 1000,
}  # fmt: skip
TINY_TRAINING = {
    "iterations": 1000, "batch_size": 8, "ema": 0.99, "norm_batches": 10,
    "save_every": 250, "keep_every": 250, "sample_every": 250, "log_every": 10,
}  # fmt: skip


def check_side(size: int, factor: int) -> None:
    """Refuses slices that a network of that many halvings cannot take.

    Raises:
        UsageError: The side does not divide by ``factor``.
    """
    if size % factor:
        raise UsageError(f"slices of {size} x {size} do not suit this network: the side must divide by {factor}")
