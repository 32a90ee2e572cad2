"""What a label map becomes before a network reads it: channels, edges, features of an encoder of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.networks.blocks import Downsample, ResBlock


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """One channel a class, background included, so that an all-zero map stays free to mean "no condition".

    Shapes:
        labels: (B, H, W) int64 in [0, num_classes), or (B, S, H, W), S label maps of each slice.
        returns: (B, S num_classes, H, W) float32, 0 or 1.
    """
    maps = labels.flatten(0, -3)
    channels = torch.zeros(maps.shape[0], num_classes, *maps.shape[1:], device=labels.device)
    return channels.scatter_(1, maps[:, None], 1.0).view(len(labels), -1, *maps.shape[1:])


def scaled_index(labels: Tensor, num_classes: int) -> Tensor:
    """The class id as one channel, in [-1, 1]: the literal reading of the paper's "additional input channel".

    Shapes:
        labels: (B, H, W) int64 in [0, num_classes), or (B, S, H, W).
        returns: (B, S, H, W) float32.
    """
    return _maps(labels).float() * (2 / (num_classes - 1)) - 1


def edges(labels: Tensor) -> Tensor:
    """The semantic edge map: pixels with another label above, below, left or right of them (paper, Eq. 8).

    Both sides of a border are marked, so an edge is two pixels wide.

    Shapes:
        labels: (B, H, W) int64, or (B, S, H, W).
        returns: (B, S, H, W) float32, 0 or 1.
    """
    vertical = labels[..., 1:, :] != labels[..., :-1, :]
    horizontal = labels[..., 1:] != labels[..., :-1]
    found = torch.zeros_like(labels, dtype=torch.bool)
    found[..., 1:, :] |= vertical
    found[..., :-1, :] |= vertical
    found[..., 1:] |= horizontal
    found[..., :-1] |= horizontal
    return _maps(found).float()


def _maps(labels: Tensor) -> Tensor:
    """(B, H, W) as (B, 1, H, W); (B, S, H, W) as it is."""
    return labels if labels.ndim == 4 else labels[:, None]


class MaskEncoder(nn.Module):
    """Encodes a map in a branch of its own, as the mask-guided and edge-guided DDPMs do (paper, Fig. 2b).

    One feature map a level, taken before its downsampling, for the U-Net to concatenate to its own. The branch
    does not see the timestep: a map is encoded once for all denoising steps.

    Shapes:
        x: (B, in_channels, H, W), sides multiples of ``2 ** len(multipliers)``.
        returns: one tensor a level, finest first; number l is (B, out_channels[l], H / 2**l, W / 2**l).

    Args:
        in_channels: Channels of the encoded map.
        channels: Channels of the first level.
        multipliers: Channels of each level, as multiples of ``channels``, finest first.
        res_blocks: Residual blocks a level.
    """

    def __init__(self, in_channels: int, channels: int, multipliers: Sequence[int], res_blocks: int) -> None:
        super().__init__()
        self.out_channels = tuple(channels * multiplier for multiplier in multipliers)
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.levels, self.down = nn.ModuleList(), nn.ModuleList()
        width = channels
        for level, out in enumerate(self.out_channels):
            if level:
                self.down.append(Downsample(width, width))
            self.levels.append(
                nn.Sequential(*(ResBlock(width if i == 0 else out, out) for i in range(res_blocks)))
            )
            width = out

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The features of every level."""
        h, features = self.conv_in(x), []
        for level, blocks in enumerate(self.levels):
            if level:
                h = self.down[level - 1](h)
            h = blocks(h)
            features.append(h)
        return tuple(features)


def to_patches(x: Tensor, patch: int) -> Tensor:
    """Folds squares of ``patch`` x ``patch`` pixels into channels: (B, C, H, W) to (B, C p^2, H / p, W / p)."""
    return F.pixel_unshuffle(x, patch) if patch > 1 else x


def from_patches(x: Tensor, patch: int) -> Tensor:
    """The inverse of ``to_patches``."""
    return F.pixel_shuffle(x, patch) if patch > 1 else x
