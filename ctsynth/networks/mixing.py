"""What lets a network of slices draw volumes: each slice reads its neighbors."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.networks.blocks import group_norm, zeroed


class Mixing(nn.Module):
    """x + conv_z(SiLU(GroupNorm(x))): a convolution along z alone, over a slice and its two neighbors.

    It begins as the identity. What lies past the ends of a window or a volume counts as zero; so does a slice
    that ``valid`` calls False, which makes a window shorter.

    Shapes:
        x: (N K, channels, H, W), N windows of K slices.
        valid: (N, K) bool; None where every slice stands alone.
        returns: the same shape as ``x``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.conv = zeroed(nn.Conv2d(channels, 3 * channels, 1, bias=False))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Adds to each slice what it, the one before and the one after contribute."""
        h = F.silu(self.norm(x))
        if valid is None:
            return x + self.conv(h).chunk(3, dim=1)[1]
        mixed = self.conv(h * valid.reshape(-1, 1, 1, 1)).unflatten(0, valid.shape)
        before, own, after = mixed.chunk(3, dim=2)
        start, end = (0,) * 6 + (1, 0), (0,) * 6 + (0, 1)
        return x + (own + F.pad(after[:, :-1], start) + F.pad(before[:, 1:], end)).flatten(0, 1)
