"""OASIS's discriminator: a U-Net that says of every pixel which class it is, or that it is fake."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.networks.spade import xavier_conv
from ctsynth.networks.spectral_norm import spectral_norm


class SegmentationDiscriminator(nn.Module):
    """Segments a slice into the label map's classes and "fake" (Schönfeld et al. 2021, Sec. 3.2).

    Residual blocks halve the slice ``levels`` times and double it as often, each on the way up beside its
    counterpart of the way down. There is no norm but the spectral one, which is on every convolution but the last.
    It does not see the label map.

    Shapes:
        x: (B, 1, H, W), sides multiples of ``2**levels``.
        returns: (B, num_classes + 1, H, W), logits: fake, then the classes.

    Args:
        num_classes: Classes of the label map.
        channels: Channels of the first two levels, doubled at every second one. The last block has half of them.
        levels: How often the slice is halved; the original's is 6.
    """

    def __init__(self, num_classes: int, channels: int = 128, levels: int = 6) -> None:
        super().__init__()
        widths = [channels * 2 ** (level // 2) for level in range(levels)]
        inward = enumerate(pairwise([1, *widths]))
        self.down = nn.ModuleList(_Down(i, o, is_first=number == 0) for number, (i, o) in inward)
        outward = zip(
            [widths[-1], *(2 * width for width in widths[-2::-1])], [*widths[-2::-1], channels // 2], strict=True
        )
        self.up = nn.ModuleList(_Up(i, o) for i, o in outward)
        self.conv_out = xavier_conv(channels // 2, num_classes + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(x)
            if skips:
                x = torch.cat([skips.pop(), x], dim=1)
        return self.conv_out(x)


class _Block(nn.Module):
    """Two convolutions of 3 x 3, and a shortcut that is learned where the width changes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_in = spectral_norm(xavier_conv(in_channels, out_channels, 3, padding=1))
        self.conv_out = spectral_norm(xavier_conv(out_channels, out_channels, 3, padding=1))
        changes = in_channels != out_channels
        self.skip = spectral_norm(xavier_conv(in_channels, out_channels, 1)) if changes else None

    def residual(self, x: Tensor) -> Tensor:
        return self.conv_out(F.leaky_relu(self.conv_in(x), 0.2))

    def shortcut(self, x: Tensor) -> Tensor:
        return x if self.skip is None else self.skip(x)


class _Down(_Block):
    """Halves the slice; the first block reads it as it is, the others after an activation."""

    def __init__(self, in_channels: int, out_channels: int, *, is_first: bool) -> None:
        super().__init__(in_channels, out_channels)
        self.is_first = is_first

    def forward(self, x: Tensor) -> Tensor:
        h = self.residual(x if self.is_first else F.leaky_relu(x, 0.2))
        # the shortcut's 1 x 1 convolution and the mean of 2 x 2 pixels commute
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


class _Up(_Block):
    """Doubles the slice."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.residual(_double(F.leaky_relu(x, 0.2)))
        return h + _double(self.shortcut(x))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
