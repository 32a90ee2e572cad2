"""The GANs' discriminators."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Judges patches of 70 x 70 pixels (Isola et al. 2017): three convolutions of stride 2, two of stride 1.

    Shapes:
        x: (B, in_channels, H, W): the label map's channels and the slice's.
        returns: the five layers' outputs; the last, (B, 1, about H / 8, about W / 8), are logits.

    Args:
        conv: Makes a convolution: (in_channels, out_channels, stride, whether a norm follows).
        norm: Makes the layer between a middle convolution and its leaky ReLU.
        in_channels: Channels of the input.
        channels: Channels of the first layer.
    """

    def __init__(
        self,
        conv: Callable[[int, int, int, bool], nn.Module],
        norm: Callable[[int], nn.Module],
        in_channels: int,
        channels: int = 64,
    ) -> None:
        super().__init__()
        widths = [min(channels * 2**n, 8 * channels) for n in range(4)]
        self.layers = nn.ModuleList([nn.Sequential(conv(in_channels, widths[0], 2, False), nn.LeakyReLU(0.2))])
        for before, width, stride in zip(widths, widths[1:], (2, 2, 1), strict=False):
            self.layers.append(nn.Sequential(conv(before, width, stride, True), norm(width), nn.LeakyReLU(0.2)))
        self.layers.append(conv(widths[-1], 1, 1, False))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every layer's output, the logits last."""
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class MultiscaleDiscriminator(nn.Module):
    """The same judge, with other weights, at full resolution and at half of it (Wang et al. 2018, Sec. 3.2).

    Shapes:
        x: (B, C, H, W).
        returns: of each scale, the layers' outputs.

    Args:
        scales: The judges, finest first.
    """

    def __init__(self, scales: list[PatchDiscriminator]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(scales)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Every scale's outputs."""
        outputs = []
        for number, scale in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(scale(x))
        return outputs
