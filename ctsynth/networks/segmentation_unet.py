"""A U-Net that tells the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.networks.blocks import Downsample, ResBlock, group_norm


class SegmentationUNet(nn.Module):
    """Ronneberger et al.'s U-Net (2015) of residual blocks, one a level on either side.

    Resolution is halved by convolutions of stride 2 and doubled by transposed ones, as in nnU-Net (Isensee et al.
    2021).

    Shapes:
        x: (B, in_channels, H, W), sides multiples of ``2 ** (len(multipliers) - 1)``.
        returns: (B, out_channels, H, W) logits.

    Args:
        in_channels: 1 for CT.
        out_channels: Classes.
        channels: Channels of the first level.
        multipliers: Channels of each level, as multiples of ``channels``, finest first.
        dropout: Rate in each residual block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 4, 8, 8),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        levels = list(pairwise(widths))
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(ResBlock(width, width, dropout=dropout) for width in widths)
        self.down = nn.ModuleList(Downsample(fine, coarse) for fine, coarse in levels)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in levels)
        self.decoder = nn.ModuleList(ResBlock(2 * fine, fine, dropout=dropout) for fine, _ in levels)
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each class at each pixel."""
        *skips, h = self.encode(x)
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            h = block(torch.cat([up(h), skips.pop()], dim=1))
        return self.conv_out(F.silu(self.norm_out(h)))

    def encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's feature maps, finest first."""
        levels = [self.encoder[0](self.conv_in(x))]
        for down, block in zip(self.down, self.encoder[1:], strict=True):
            levels.append(block(down(levels[-1])))
        return levels
