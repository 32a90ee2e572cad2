"""Networks and the blocks that they are made of: compiled, or computed twice to save memory."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ctsynth import compat
from ctsynth.trainable import TrainableModel

MOST_SHAPES = 64
"""Graphs that a block may have, one for each shape. Torch's own limit of 8 would leave most levels uncompiled."""


def compile_model(model: TrainableModel, device: torch.device) -> None:
    """Compiles each network of a model with ``torch.compile``, on a CPU block by block.

    On a GPU a training step of the paper's U-Net has some 2,900 kernels, and launching them from Python takes
    longer than running them. One graph a network launches them from compiled code, and fuses across blocks. On a
    CPU such a graph takes many minutes to compile; blocks of equal shapes share one.

    Sizes are constants in the graphs: symbolic ones take longer to compile and to run.
    """
    compat.allow_graphs(MOST_SHAPES)
    whole = list(model.children())
    for module in whole if device.type == "cuda" else blocks(model) or whole:
        module.forward = torch.compile(module.forward, dynamic=False)


def recompute_blocks(model: TrainableModel) -> None:
    """Recomputes the model's blocks in the backward pass, so that only their inputs are kept.

    At 256 x 256 the paper's ddpm-mask keeps 0.30 of its activations, sdm 0.15, at 1.19 and 1.27 times the FLOPs.
    """
    for block in blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def blocks(model: TrainableModel) -> list[nn.Module]:
    """The model's blocks, as its class names them."""
    return [module for module in model.modules() if isinstance(module, model.blocks)]
