"""A model's weights as a safetensors file, read only into a model of exactly those weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from ctsynth.errors import DataError
from ctsynth.files import HashedFile

ANOTHER = "use another checkpoint of the run"


def save(module: nn.Module, file: Path) -> str:
    """Writes a safetensors file, which save_file would make readable for its owner only; returns its SHA-256."""
    content = safetensors.torch.save({name: value.contiguous() for name, value in module.state_dict().items()})
    with HashedFile(file) as handle:
        handle.write(content)
        return handle.sha256


def load(model: nn.Module, file: Path) -> None:
    """Loads a safetensors file into a model of exactly those weights.

    Raises:
        DataError: The file is missing or damaged, of another network, or not of finite numbers.
    """
    try:
        weights = safetensors.torch.load_file(file)
    except Exception as error:  # of several kinds: SafetensorError, OSError, and what torch makes of a dtype
        raise DataError(f"{file}: cannot read it: {error}", hint=ANOTHER) from error
    own = model.state_dict()
    odd = [name for name in own.keys() | weights.keys() if _form(own, name) != _form(weights, name)]
    if odd:
        raise DataError(
            f"{file}: weights of another network: {len(odd)} of {len(own)} tensors do not fit, such as {min(odd)}",
            hint="its config.json must be the one it was saved with",
        )
    for name, values in weights.items():
        if not values.isfinite().all():
            raise DataError(f"{file}: {name} holds NaN or infinity", hint=ANOTHER)
    model.load_state_dict(weights)


def _form(weights: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Size, torch.dtype] | None:
    return (weights[name].shape, weights[name].dtype) if name in weights else None
