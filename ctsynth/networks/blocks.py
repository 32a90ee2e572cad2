"""The building blocks of improved-diffusion's U-Net (Nichol & Dhariwal 2021), for any encoder or decoder here.

A block that takes no time embedding is the same block with ``time_channels=0``; one whose norms read the label map
has ``segmap_channels`` (SDM, Wang et al. 2022).
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.networks.dropout import Dropout
from ctsynth.networks.spade import SPADE

Layer = TypeVar("Layer", bound=nn.Module)


def group_norm(channels: int, *, affine: bool = True) -> nn.GroupNorm:
    """GroupNorm with improved-diffusion's 32 groups, but never fewer than four channels a group.

    The two differ below 128 channels only. Few channels a group make an instance norm of it, which forgets how
    bright a feature is.
    """
    return nn.GroupNorm(math.gcd(channels, max(1, min(32, channels // 4))), channels, affine=affine)


def zeroed(layer: Layer) -> Layer:
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
        segmap: (B, segmap_channels, k H, k W), or None where ``segmap_channels`` is 0.
        returns: (B, out_channels, H, W); sides halved for ``down``, doubled for ``up``.

    Args:
        in_channels: Channels of ``x``.
        out_channels: Channels of the output.
        time_channels: Channels of the time embedding; 0 without.
        dropout: Rate before the second convolution.
        segmap_channels: Channels of the label map that both SPADE norms read; 0 for plain norms. SPADE's hidden
            layer has SDM's 128 channels, but at most ``out_channels``, or it would be most of a narrow network.
        resample: Averages 2 x 2 pixels, or repeats each, on both paths: after the first SiLU, and of ``x``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_channels: int = 0,
        dropout: float = 0.0,
        *,
        segmap_channels: int = 0,
        resample: Literal["down", "up"] | None = None,
    ) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            if segmap_channels:
                hidden = min(128, out_channels)
                return SPADE(group_norm(channels, affine=False), channels, segmap_channels, hidden)
            return group_norm(channels)

        self.norm_in = norm(in_channels)
        self.resample = {"down": nn.AvgPool2d(2), "up": nn.Upsample(scale_factor=2), None: nn.Identity()}[resample]
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, 2 * out_channels) if time_channels else None
        self.norm_out = norm(out_channels)
        self.dropout = Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor | None = None, segmap: Tensor | None = None) -> Tensor:
        """Adds the block's output to its (possibly resampled and projected) input."""
        read = () if segmap is None else (segmap,)
        h = self.resample(F.silu(self.norm_in(x, *read)))
        h = self.conv_in(h)
        if self.time is None:
            h = self.norm_out(h, *read)
        else:
            assert time is not None
            h = _modulated(self.norm_out, h, read, *self.time(F.silu(time)).chunk(2, dim=1))
        return self.skip(self.resample(x)) + self.conv_out(self.dropout(F.silu(h)))


def _modulated(norm: nn.Module, x: Tensor, read: tuple[Tensor, ...], scale: Tensor, shift: Tensor) -> Tensor:
    """norm(x) * (1 + scale) + shift, with a scale and shift, (B, channels), for each slice.

    Of a plain group norm it is one of B times as many channels and groups, whose weights are the product: a pass
    less over ``x`` in both directions, and the normalized features need not be kept for the backward pass.
    """
    if not isinstance(norm, nn.GroupNorm):
        return torch.addcmul(shift[..., None, None], norm(x, *read), 1 + scale[..., None, None])
    weight, bias = norm.weight * (1 + scale), torch.addcmul(shift, norm.bias, 1 + scale)
    flat = x.reshape(1, -1, *x.shape[2:])
    return F.group_norm(flat, len(x) * norm.num_groups, weight.flatten(), bias.flatten(), norm.eps).view(x.shape)


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
        query, key, value = qkv.transpose(-1, -2).contiguous().chunk(3, dim=-1)  # as fused kernels want them
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

    def forward(self, x: Tensor, *_: Tensor | None) -> Tensor:
        """Convolves with stride 2. Ignores time and label map; same signature as ``ResBlock``."""
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

    def forward(self, x: Tensor, *_: Tensor | None) -> Tensor:
        """Repeats each pixel, then convolves. Ignores time and label map; same signature as ``ResBlock``."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
