"""Random numbers as a function of a position, never of a generator's history.

What is drawn for slice 7 at step 1200 under seed 3 depends on these numbers alone. So a run that was broken and
resumed equals the unbroken one, and a synthetic slice does not depend on its batch, its shard or its rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

Key = tuple[str | int, ...]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed 64-bit integers, which wrap around
_MIXING = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))

NEIGHBORS = 5
"""Lattice keys on either side of a position that a smooth draw mixes; further ones weigh less than 1e-4."""


def seed_of(*key: str | int) -> int:
    """A 63-bit seed for a key; different keys give unrelated streams."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def hashed(seeds: Tensor, count: int) -> Tensor:
    """64 random bits, ``count`` times for each seed, the same on every device: (B,) to (B, count) int64.

    SplitMix64 (Steele, Lea & Flood 2014) without its history: the number at a place is a hash of seed and place.
    """
    bits = seeds[:, None] + _GOLDEN * torch.arange(1, count + 1, device=seeds.device)
    for shift, factor in _MIXING:
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, zeros following: torch's integers are signed, and their sign would follow."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


class BatchRNG:
    """Draws for a batch, each item from a stream of its own.

    Args:
        items: For each item of the batch the keys that it is drawn from and their weights; normal draws are the
            weighted sums, which keep unit variance when the squared weights sum to 1.
        device: Where the numbers are drawn; another device draws other numbers.
        group: Key of all items together, if they belong together: a volume's slices, a training batch.
    """

    def __init__(
        self, items: Sequence[Sequence[tuple[Key, float]]], device: torch.device, group: Key | None = None
    ) -> None:
        self.items = items
        self.device = device
        self.groups = [group] * len(items)
        self._generator = torch.Generator(device)

    @classmethod
    def at(cls, keys: Sequence[Key], device: torch.device, group: Key | None = None) -> BatchRNG:
        """Draws in which each item has one key."""
        return cls([[(key, 1.0)] for key in keys], device, group)

    @classmethod
    def smooth(
        cls, key: Key, positions: Sequence[float], lengths: Sequence[tuple[float, float]], device: torch.device
    ) -> BatchRNG:
        """Draws whose items are alike where their positions are near, for slices along z.

        For each length, white noise on a fixed lattice of positions is smoothed by a Gaussian: the correlation of
        two normal draws at distance d is the sum of share * exp(-d^2 / (2 length^2)), whatever other positions are
        in the batch.

        Args:
            key: Key of the volume.
            positions: Position of each item, mm.
            lengths: Each in mm, with its share of the variance; the shares sum to 1.
            device: Where the numbers are drawn.
        """
        items = []
        for position in positions:
            sources = []
            for length, share in lengths:
                spacing = length / math.sqrt(2)  # the smoothing's standard deviation, and fine enough a lattice
                center = round(position / spacing)
                lattice = range(center - NEIGHBORS, center + NEIGHBORS + 1)
                weights = [math.exp(-0.5 * (position / spacing - k) ** 2) for k in lattice]
                norm = math.sqrt(sum(weight**2 for weight in weights) / share)
                sources += [((*key, f"{length:g} mm", k), w / norm) for k, w in zip(lattice, weights, strict=True)]
            items.append(sources)
        return cls(items, device, group=key)

    @classmethod
    def joined(cls, parts: Sequence[BatchRNG]) -> BatchRNG:
        """Draws of several batches as one, each item as in its own."""
        whole = cls([item for part in parts for item in part.items], parts[0].device)
        whole.groups = [group for part in parts for group in part.groups]
        return whole

    def normal(self, name: str | int, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers called ``name``: (B, *shape) float32."""
        drawn: dict[Key, Tensor] = {}
        out = torch.zeros(len(self.items), *shape, device=self.device)
        for row, sources in zip(out, self.items, strict=True):
            for key, weight in sources:
                if key not in drawn:
                    drawn[key] = torch.randn(*shape, generator=self._seeded(key, name), device=self.device)
                row.add_(drawn[key], alpha=weight)
        return out

    def shared(self, name: str | int, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers that are the same for all items of the group: (B, *shape) float32.

        An item that belongs to no group draws its own.
        """
        alone = [[(group, 1.0)] if group else item for group, item in zip(self.groups, self.items, strict=True)]
        return BatchRNG(alone, self.device).normal(name, shape)

    def uniform(self, name: str | int) -> Tensor:
        """Numbers of [0, 1) called ``name``, each from its item's heaviest key: (B,) float32."""
        return self.integers(name, 2**24) / 2**24

    def integers(self, name: str | int, high: int) -> Tensor:
        """Whole numbers of [0, high) called ``name``, each from its item's heaviest key: (B,) int64."""
        rows = [
            torch.randint(
                high, (), generator=self._seeded(max(sources, key=lambda s: s[1])[0], name), device=self.device
            )
            for sources in self.items
        ]
        return torch.stack(rows)

    def _seeded(self, key: Key, name: str | int) -> torch.Generator:
        return self._generator.manual_seed(seed_of(*key, name))
