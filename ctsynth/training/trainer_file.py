"""trainer.pt: the state of the optimizers and of the log at a step, read only if these optimizers can take it."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Annotated, Any, NotRequired, TypedDict, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ctsynth.errors import DataError
from ctsynth.files import HashedFile
from ctsynth.schema import Range, parse

NAME = "trainer.pt"

_Count = Annotated[int, Range(0, 999_999_999)]


class _Optimizer(TypedDict):
    state: dict[int, dict[str, Tensor]]


class _Log(TypedDict):
    steps: _Count
    sums: dict[str, Tensor]


class Content(TypedDict):
    """What it holds; the settings of the optimizers, which it holds too, are taken from config.json."""

    step: _Count
    optimizers: dict[str, _Optimizer]
    log: NotRequired[_Log]


def save(content: Mapping[str, Any], file: Path) -> str:
    """Writes it and returns its SHA-256; equal contents give equal bytes.

    Raises:
        OSError: It cannot be written.
    """
    try:
        with HashedFile(file) as handle:
            torch.save(_plain(content), cast(IO[bytes], handle))
            return handle.sha256
    except RuntimeError as error:  # "unexpected pos 768 vs 662" is what torch makes of a full disk
        cause = error.__context__
        raise cause if isinstance(cause, OSError) else OSError(str(error).splitlines()[0]) from None


def _plain(content: Any) -> Any:  # noqa: ANN401  what torch.save takes
    """The same content rebuilt: pickle's bytes depend on which equal strings and tuples are one object."""
    if isinstance(content, Mapping):
        return {sys.intern(key) if isinstance(key, str) else key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)([_plain(value) for value in content])
    return content


def load(file: Path, step: int, optimizers: Mapping[str, Optimizer]) -> Content:
    """Reads it and checks that it is of that step and that these optimizers can take it.

    Raises:
        DataError: It is missing, damaged, or of another step or other optimizers.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle protocol that is not its own
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: EOFError, KeyError, UnpicklingError, RuntimeError, ValueError
        raise DataError(f"{file}: cannot read it: {error}") from error
    content = parse(Content, found, str(file))
    if content["step"] != step:
        raise DataError(f"{file}: its step is {content['step']}, wanted {step}")
    for name, optimizer in optimizers.items():
        if name not in content["optimizers"]:
            raise DataError(f"{file}: optimizers.{name} is missing")
        _check_moments(f"{file}: optimizers.{name}", content["optimizers"][name], optimizer)
    for name, sums in content["log"]["sums"].items() if "log" in content else ():
        if sums.ndim != 1 or not len(sums) or not sums.is_floating_point():
            raise DataError(f"{file}: log.sums.{name} is {_described(sums)}, wanted a number of each rank")
    return content


def restore(content: Content, optimizers: Mapping[str, Optimizer]) -> None:
    """Loads each optimizer's state; its settings stay."""
    for name, optimizer in optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": content["optimizers"][name]["state"], "param_groups": groups})


def _check_moments(where: str, content: _Optimizer, optimizer: Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, moments in content["state"].items():
        place = f"{where}.state.{number}"
        if number not in range(len(parameters)):
            raise DataError(f"{place}: there are {len(parameters)} parameters")
        shape = parameters[number].shape
        wanted = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}  # Adam's
        if moments.keys() != wanted.keys():
            raise DataError(f"{place} holds {', '.join(map(str, moments))}, wanted {', '.join(wanted)}")
        for key, tensor in moments.items():
            if tensor.shape != wanted[key] or not tensor.is_floating_point():
                raise DataError(f"{place}.{key} is {_described(tensor)}, wanted floats of {tuple(wanted[key])}")
        if not 0 <= moments["step"].item() < math.inf:
            raise DataError(f"{place}.step is {moments['step'].item():g}, wanted 0 or more")


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}".removeprefix("torch.")
