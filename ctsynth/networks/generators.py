"""Pix2Pix's generator: a U-Net that halves its input down to a point (Isola et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.compat import is_batch_norm

DROPPED = 3
"""Decoder layers with dropout, the innermost ones."""


class UNetGenerator(nn.Module):
    """Halves the label map ``depth`` times, doubles it as often, and lets every level see its counterpart.

    Convolutions of 4 x 4 and stride 2 without biases, each followed by batch normalization but for the first, the
    innermost and the last. Dropout is the only source of randomness, and is not drawn here.

    Shapes:
        x: (B, in_channels, H, W), sides multiples of ``2**depth``.
        masks: three, as ``mask_shapes`` gives them behind B: 0 or 2, as dropout at a rate of 0.5 multiplies by.
        returns: (B, 1, H, W), before the tanh.

    Args:
        in_channels: Channels of the label map.
        channels: Channels of the first level, doubled from level to level up to eight times this.
        depth: Levels, at least 4; 8 for 256 x 256 and 6 for 64 x 64 end in a point.
    """

    def __init__(self, in_channels: int, channels: int = 64, depth: int = 8) -> None:
        super().__init__()
        widths = [min(channels * 2**level, 8 * channels) for level in range(depth)]
        inward = pairwise([in_channels, *widths])
        self.down = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1, bias=False) for i, o in inward)
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:-1])
        self.up_widths = [*widths[-2::-1], 1]
        outward = zip([widths[-1], *(2 * width for width in self.up_widths)], self.up_widths, strict=False)
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, stride=2, padding=1, bias=False) for i, o in outward)
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(width) for width in self.up_widths[:-1])

    def mask_shapes(self, side: int) -> list[tuple[int, int, int]]:
        """Channels, height and width of each dropout mask for slices of ``side`` pixels, innermost first."""
        point = side >> len(self.down)
        return [(self.up_widths[n], point << (n + 1), point << (n + 1)) for n in range(DROPPED)]

    def forward(self, x: Tensor, masks: Sequence[Tensor] | None = None, *, per_slice: bool = False) -> Tensor:
        """The slice whose tanh is shown.

        Args:
            x: The label map.
            masks: Dropout masks; None leaves dropout out.
            per_slice: Normalize each slice by its own mean and variance, whatever else is in the batch.
        """
        skips = [self.down[0](x)]
        for conv, norm in zip(self.down[1:-1], self.down_norms, strict=True):
            skips.append(_normalize(norm, conv(F.leaky_relu(skips[-1], 0.2)), per_slice))
        x = self.down[-1](F.leaky_relu(skips[-1], 0.2))
        for level, (conv, norm) in enumerate(zip(self.up[:-1], self.up_norms, strict=True)):
            x = _normalize(norm, conv(F.relu(x)), per_slice)
            if masks is not None and level < DROPPED:
                x = x * masks[level].to(x.dtype)
            x = torch.cat([x, skips.pop()], dim=1)
        return self.up[-1](F.relu(x))


def _normalize(norm: nn.Module, x: Tensor, per_slice: bool) -> Tensor:
    if per_slice:
        assert is_batch_norm(norm)
        return F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=norm.eps)
    return norm(x)
