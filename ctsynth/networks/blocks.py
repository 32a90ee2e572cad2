"""The building blocks of improved-diffusion's U-Net (Nichol & Dhariwal 2021), for any encoder or decoder here.

A block that takes no time embedding is the same block with ``time_channels=0``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with improved-diffusion's 32 groups, but never fewer than four channels a group.

    The two differ below 128 channels only. Few channels a group make an instance norm of it, which forgets how
    bright a feature is.
    """
    return nn.GroupNorm(math.gcd(channels, max(1, min(32, channels // 4))), channels)


def zeroed(layer: nn.Conv1d | nn.Conv2d) -> nn.Conv1d | nn.Conv2d:
    """The layer with its weights at zero, so that a block begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def timestep_embedding(timesteps: Tensor, channels: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines, of the timestep at geometrically spaced frequencies (Vaswani et al. 2017, Sec. 3.5).

    Shapes:
        timesteps: (B,), integers or fractions of [0, 1000).
        returns: (B, channels) float32; ``channels`` even.
    """
    half = channels // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(max_period) * exponent)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the time embedding scales and shifts the second norm.

    Shapes:
        x: (B, in_channels, H, W).
        time: (B, time_channels), or None where ``time_channels`` is 0.
        returns: (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, time_channels: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, 2 * out_channels) if time_channels else None
        self.norm_out = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Adds the block's output to its (possibly projected) input."""
        h = self.norm_out(self.conv_in(F.silu(self.norm_in(x))))
        if self.time is not None:
            assert time is not None
            scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        return self.skip(x) + self.conv_out(self.dropout(F.silu(h)))


class AttentionBlock(nn.Module):
    """Self-attention over all positions of a feature map.

    Shapes:
        x: (B, channels, H, W); ``channels`` a multiple of ``heads``.
        returns: the same shape.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Adds what each position reads from the others."""
        batch, channels, height, width = x.shape
        flat = self.norm(x).reshape(batch, channels, height * width)
        qkv = self.qkv(flat).reshape(batch, self.heads, 3 * channels // self.heads, height * width)
        query, key, value = qkv.transpose(-1, -2).chunk(3, dim=-1)
        read = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(read.transpose(-1, -2).reshape(batch, channels, -1)).reshape(x.shape)


class Downsample(nn.Module):
    """Halves the resolution with a strided convolution.

    Shapes:
        x: (B, in_channels, H, W).
        returns: (B, out_channels, H / 2, W / 2).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves with stride 2."""
        return self.conv(x)


class Upsample(nn.Module):
    """Doubles the resolution: nearest neighbor, then a convolution.

    Shapes:
        x: (B, channels, H, W).
        returns: (B, channels, 2 H, 2 W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Repeats each pixel, then convolves."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
