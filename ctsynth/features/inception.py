"""pytorch-fid's Inception network, its batch norms folded, on slices of CT.

The network is built from pytorch-fid's own code with weights that are already there; nothing is downloaded.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.device import find_device

if TYPE_CHECKING:
    from torch import Tensor, nn

DIMENSIONS = 2048
"""Features of a slice: the last average pool's."""

BATCH = {"cpu": 16}
"""Slices in one pass, by the type of device."""

BATCH_ELSEWHERE = 128


def absent() -> str:
    """Why pytorch-fid cannot be imported; ``""`` if it can."""
    for module, package in (("pytorch_fid", "pytorch-fid"), ("torchvision", "torchvision")):
        if find_spec(module) is None:
            return f"{package} is not installed: pip install pytorch-fid, with the torchvision of your torch"
    return ""


class Inception:
    """Features of slices, as ``python -m pytorch_fid`` computes them of the same slices as 8-bit gray PNG.

    Args:
        weights: Weights of pytorch-fid's network, by name.
        device: As in ``find_device``.
    """

    def __init__(self, weights: dict[str, Tensor], device: str = "auto") -> None:
        import torch

        self._device = find_device(device)
        self._net = fold(build(weights)).to(self._device)
        for parameter in self._net.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def __call__(self, slices: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The features of slices.

        Args:
            slices: (Z, H, W) in [0, 1].

        Returns:
            (Z, 2048).
        """
        batch = BATCH.get(self._device.type, BATCH_ELSEWHERE)
        parts = [self._features(to_gray(slices[start : start + batch])) for start in range(0, len(slices), batch)]
        return np.concatenate(parts) if parts else np.empty((0, DIMENSIONS), np.float32)

    def _features(self, gray: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        images = torch.from_numpy(gray).to(self._device)[:, None].float().div(255).expand(-1, 3, -1, -1)
        images = images.contiguous(memory_format=torch.channels_last)
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            features: NDArray[np.float32] = self._net(images)[0].flatten(1).cpu().numpy()
        return features


def to_gray(slices: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Values in [0, 1] as the gray levels of an 8-bit PNG, the window's ends 0 and 255."""
    gray: NDArray[np.uint8] = np.rint(np.clip(slices, 0, 1) * 255).astype(np.uint8)
    return gray


def build(weights: dict[str, Tensor]) -> nn.Module:
    """pytorch-fid's network with these weights, ready for inference.

    Raises:
        RuntimeError: A tensor is missing, is not the network's, or has another shape.
    """
    import_torchvision()
    inception: Any = import_module("pytorch_fid.inception")
    download = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = lambda *_, **__: weights
    try:
        return inception.InceptionV3().eval()
    finally:
        inception.load_state_dict_from_url = download


def fold(net: nn.Module) -> nn.Module:
    """Multiplies each batch norm into the convolution before it, in place: the same function for less work."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    block: Any
    for block in net.modules():
        if isinstance(getattr(block, "bn", None), nn.BatchNorm2d):
            block.conv = fuse_conv_bn_eval(block.conv, block.bn)
            block.bn = nn.Identity()
    return net


@functools.cache
def import_torchvision() -> object:
    """Imports torchvision even where its compiled operators do not load, as those of PyPI on a torch without CUDA.

    Inception needs none of them, but the import fails because two are not declared. They are then declared without
    a body: calling them raises torchvision's own error.

    Returns:
        What they are declared by, which has to stay.
    """
    try:
        return import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    from torch.library import Library

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import_module("torchvision")
    return library
