"""The front of VGG-19, by whose features slices are compared (Simonyan & Zisserman 2015)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

STAGES = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512,))
"""Channels of each convolution; the sides halve between the stages. The rest of the network is not needed."""


class VGG19(nn.Module):
    """Frozen features of five scales, each after the first ReLU of its stage (relu1_1 to relu5_1).

    The images are taken as they are: SPADE gives them in [-1, 1], without ImageNet's mean and deviation.

    Shapes:
        image: (B, 1 or 3, H, W), sides at least 16; one channel is taken for all three.
        returns: (B, 64, H, W), (B, 128, H / 2, W / 2), (B, 256, ...), (B, 512, ...), (B, 512, H / 16, W / 16).

    Args:
        state: torchvision's weights under its names; those of later layers are passed over.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        before = 3
        with torch.device("meta"):  # no initial weights, which would be drawn in the midst of training
            for stage in STAGES:
                layers += [nn.MaxPool2d(2)] if layers else []
                self.taps.append(len(layers) + 1)
                for width in stage:
                    layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                    before = width
            self.features = nn.Sequential(*layers)
        self.load_state_dict({name: state[name] for name in self.state_dict()}, assign=True)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """The five taps, finest first."""
        x, taps = image.expand(-1, 3, -1, -1), []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                taps.append(x)
        return taps
