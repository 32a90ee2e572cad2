"""Spatially-adaptive normalization, and the generator that SPADE and OASIS build of it (Park et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.networks.spectral_norm import spectral_norm

GAIN = 0.02
"""Gain of the Xavier-normal initial weights of SPADE and OASIS."""


def xavier_conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = True
) -> nn.Conv2d:
    """A convolution with Xavier-normal weights of gain 0.02 and biases of zero."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=bias)
    nn.init.xavier_normal_(layer.weight, GAIN)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class SPADE(nn.Module):
    """Normalizes, then scales and shifts each position by what the label map says there.

    norm(x) * (1 + gamma(segmap)) + beta(segmap) (Park et al. 2019, Eq. 1), with gamma and beta from one hidden
    layer of 3 x 3 convolutions on the nearest-neighbor resized map.

    Shapes:
        x: (B, channels, H, W).
        segmap: (B, segmap_channels, k H, k W), one-hot or more, k a whole number.
        returns: (B, channels, H, W).

    Args:
        norm: Normalizes ``x`` without a scale and shift of its own.
        channels: Channels of ``x``.
        segmap_channels: Channels of the label map.
        hidden: Channels of the hidden layer.
    """

    def __init__(self, norm: nn.Module, channels: int, segmap_channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.norm = norm
        self.shared = nn.Conv2d(segmap_channels, hidden, 3, padding=1)
        self.gamma_beta = nn.Conv2d(hidden, 2 * channels, 3, padding=1)  # gamma's channels, then beta's

    def forward(self, x: Tensor, segmap: Tensor) -> Tensor:
        """The modulated features."""
        if segmap.shape[-2:] != x.shape[-2:]:  # at equal sizes it would be a copy
            segmap = F.interpolate(segmap, size=x.shape[-2:], mode="nearest")
        gamma, beta = self.gamma_beta(F.relu(self.shared(segmap))).chunk(2, dim=1)
        return torch.addcmul(beta, self.norm(x), 1 + gamma)


def _spade(channels: int, segmap_channels: int, hidden: int) -> SPADE:
    layer = SPADE(nn.BatchNorm2d(channels, affine=False), channels, segmap_channels, hidden)
    with torch.no_grad():
        for weight in (layer.shared.weight, *layer.gamma_beta.weight.chunk(2)):  # two layers in the original
            nn.init.xavier_normal_(weight, GAIN)
    for bias in (layer.shared.bias, layer.gamma_beta.bias):
        assert bias is not None
        nn.init.zeros_(bias)
    return layer


class SPADEResBlock(nn.Module):
    """SPADE, leaky ReLU, convolution, twice, beside a shortcut that is learned where the width changes.

    Shapes:
        x: (B, in_channels, H, W).
        segmap: as ``SPADE`` takes it.
        returns: (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, segmap_channels: int, hidden: int = 128) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm_in = _spade(in_channels, segmap_channels, hidden)
        self.conv_in = spectral_norm(xavier_conv(in_channels, middle, 3, padding=1))
        self.norm_out = _spade(middle, segmap_channels, hidden)
        self.conv_out = spectral_norm(xavier_conv(middle, out_channels, 3, padding=1))
        self.norm_skip = self.skip = None
        if in_channels != out_channels:
            self.norm_skip = _spade(in_channels, segmap_channels, hidden)
            self.skip = spectral_norm(xavier_conv(in_channels, out_channels, 1, bias=False))

    def forward(self, x: Tensor, segmap: Tensor) -> Tensor:
        """Adds the two convolutions' output to the shortcut's."""
        h = self.conv_in(F.leaky_relu(self.norm_in(x, segmap), 0.2))
        h = self.conv_out(F.leaky_relu(self.norm_out(h, segmap), 0.2))
        if self.skip is not None and self.norm_skip is not None:
            x = self.skip(self.norm_skip(x, segmap))
        return x + h


class SPADEGenerator(nn.Module):
    """From a small copy of the label map to a slice, conditioned on the label map by SPADE at each resolution.

    SPADE's at the defaults; OASIS's with ``blocks`` all 1 and its noise among the channels of ``segmap``.

    Shapes:
        segmap: (B, segmap_channels, H, W), sides multiples of ``2 ** (len(multipliers) - 1)``.
        returns: (B, 1, H, W), before the tanh.

    Args:
        segmap_channels: Channels of the label map, with whatever is concatenated to it.
        channels: Channels of the finest resolution.
        multipliers: Channels that each resolution ends with, as multiples of ``channels``, coarsest first.
        blocks: Residual blocks at each resolution, coarsest first.
        hidden: Channels of the hidden layer of each SPADE.
    """

    def __init__(
        self,
        segmap_channels: int,
        *,
        channels: int = 64,
        multipliers: Sequence[int] = (16, 16, 8, 4, 2, 1),
        blocks: Sequence[int] = (1, 2, 1, 1, 1, 1),
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.factor = 2 ** (len(multipliers) - 1)
        width = multipliers[0] * channels
        self.conv_in = xavier_conv(segmap_channels, width, 3, padding=1)
        self.levels = nn.ModuleList()
        for multiplier, count in zip(multipliers, blocks, strict=True):
            widths = [*[width] * count, multiplier * channels]
            self.levels.append(_Level(SPADEResBlock(i, o, segmap_channels, hidden) for i, o in pairwise(widths)))
            width = multiplier * channels
        self.conv_out = xavier_conv(width, 1, 3, padding=1)

    def forward(self, segmap: Tensor) -> Tensor:
        """The slice whose tanh is shown."""
        height, width = segmap.shape[-2] // self.factor, segmap.shape[-1] // self.factor
        x = self.conv_in(F.interpolate(segmap, size=(height, width), mode="nearest"))
        for number, level in enumerate(self.levels):
            if number:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = level(x, segmap)
        return self.conv_out(F.leaky_relu(x, 0.2))


class _Level(nn.ModuleList):
    """The residual blocks of one resolution."""

    def forward(self, x: Tensor, segmap: Tensor) -> Tensor:
        for block in self:
            x = block(x, segmap)
        return x
