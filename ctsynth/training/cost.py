"""What a method costs at a size, counted without weights or arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ctsynth import compat
from ctsynth.config import build
from ctsynth.diffusion.samplers import Sampler
from ctsynth.methods import base
from ctsynth.randomness import BatchRNG

Shape = list[int]


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters of each phase by name, and FLOPs (two a multiplication and addition) of drawing a slice.

    A diffusion model's are those of one denoising step, with the label map's encoding.
    """

    parameters: dict[str, int]
    flops: int


def cost(name: str, *, preset: str = "paper", num_classes: int, size: int) -> Cost:
    """Counts what a method costs.

    Args:
        name: Name of the method.
        preset: One of its presets.
        num_classes: Classes in a label map.
        size: Side of a slice, pixels.

    Raises:
        UsageError: There is no such method, or it cannot draw slices of this size.
    """
    cls = base.find_method(name)
    options = build(cls.Options, cls.presets[preset].options, name)
    with compat.shapes_only():  # shapes only
        method = cls(options, num_classes=num_classes, size=size).eval().requires_grad_(False)
        sampler = Sampler(name=method.samplers[0], steps=1) if method.samplers else None
        rng = BatchRNG.at([("cost",)], torch.device("cpu"))
        with flop_counter() as counter:
            method.generate(torch.zeros(1, size, size, dtype=torch.int64), rng=rng, sampler=sampler)
    parameters = {phase.name: sum(p.numel() for p in phase.parameters) for phase in method.phases()}
    return Cost(parameters, counter.get_total_flops())


def flop_counter() -> FlopCounterMode:
    """Counts FLOPs, two a multiplication and addition; of a CPU's fused attention too, which torch's does not."""

    def forward(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(grad: Shape, query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    aten = torch.ops.aten
    attention = aten._scaled_dot_product_flash_attention_for_cpu
    gradient = aten._scaled_dot_product_flash_attention_for_cpu_backward
    return FlopCounterMode(display=False, custom_mapping={attention: forward, gradient: backward})
