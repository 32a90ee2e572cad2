"""Dropout whose mask depends on the slice alone: not on its batch, nor on what part or rank it is in."""

from __future__ import annotations

from torch import Tensor, nn

from ctsynth.randomness import BatchRNG, hashed


class Dropout(nn.Module):
    """torch's Dropout with a mask that ``seed_dropout`` has chosen for each slice.

    The mask is a hash of seed and place, which no generator draws: so it compiles, is the same when a block is
    computed twice, and the same on every device.

    Shapes:
        x: (B, channels, H, W).
        returns: the same; in training zeros at ``rate`` of all places, and the others divided by 1 - ``rate``.

    Args:
        rate: Share of zeros, within [0, 1).
    """

    seeds: Tensor | None = None

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drops, in training."""
        if not self.training or not self.rate:
            return x
        assert self.seeds is not None, "seed_dropout comes first"
        kept = hashed(self.seeds, x[0].numel()) >= int(self.rate * 2**64) - 2**63
        return x * (kept.view(x.shape) / (1 - self.rate)).to(x.dtype)


def seed_dropout(network: nn.Module, rng: BatchRNG) -> None:
    """Chooses the masks of the network's dropout layers, of each for each slice, until the next call."""
    layers = [module for module in network.modules() if isinstance(module, Dropout) and module.rate]
    if layers:
        seeds = hashed(rng.integers("dropout", 2**62), len(layers))
        for layer, own in zip(layers, seeds.unbind(1), strict=True):
            layer.seeds = own
