"""Self-attention of a U-Net beside improved-diffusion's, with the same weights."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from ctsynth.networks.blocks import AttentionBlock

from .row import Row, Side, checkout
from .steps import ABSENT, saved

CHANNELS, HEADS, SIDE, SLICES = 256, 4, 32, 4


def blocks(official: Path) -> tuple[nn.Module, nn.Module]:
    with checkout(official, "improved-diffusion", ABSENT):
        theirs = import_module("improved_diffusion.unet").AttentionBlock(CHANNELS, HEADS)
    torch.manual_seed(0)
    ours = AttentionBlock(CHANNELS, HEADS)
    for parameter in ours.parameters():  # its last layer begins as zeros
        nn.init.normal_(parameter, std=0.05)
    theirs.load_state_dict({name.replace("out.", "proj_out."): value for name, value in ours.state_dict().items()})
    return ours, theirs


def features() -> Tensor:
    return torch.randn(SLICES, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def training(official: Path, folder: Path) -> tuple[Side, Side]:
    """Forward and backward pass; what is found is the gradient of the features."""

    def step(block: nn.Module) -> Tensor:
        x = features().requires_grad_()
        block.zero_grad()
        block(x).square().sum().backward()
        return x.grad

    ours, theirs = blocks(official)
    return partial(step, ours), partial(step, theirs)


def sampling(official: Path, folder: Path) -> tuple[Side, Side]:
    x = features()

    @torch.inference_mode()
    def step(block: nn.Module) -> Tensor:
        return block(x)

    ours, theirs = (block.eval() for block in blocks(official))
    return partial(step, ours), partial(step, theirs)


def keeping(official: Path, folder: Path) -> tuple[Side, Side]:
    def step(block: nn.Module) -> float:
        return saved(lambda: block(features().requires_grad_()), block)

    ours, theirs = blocks(official)
    return partial(step, ours), partial(step, theirs)


WHAT = f"self-attention of {CHANNELS} channels at {SIDE} x {SIDE}, {SLICES} slices"

ROWS = (
    Row(
        name="attention",
        quantity=f"{WHAT}: forward and backward pass",
        peer="improved-diffusion",
        hold=0.60,
        setup=training,
        within=1e-4,
    ),
    Row(
        name="attention-sampling",
        quantity=f"{WHAT}: forward pass",
        peer="improved-diffusion",
        hold=0.65,
        setup=sampling,
        within=1e-4,
    ),
    Row(
        name="attention-memory",
        quantity=f"{WHAT}: saved for the backward pass",
        peer="improved-diffusion",
        hold=0.35,
        setup=keeping,
        unit="B",
        returned=True,
    ),
)
