"""A run that begins from the averaged weights of another: ``ctsynth train --from RUN``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch

from ctsynth.config import RunConfig
from ctsynth.errors import DataError, UsageError
from ctsynth.files import sha256
from ctsynth.labels import LabelSet
from ctsynth.methods.base import find_method
from ctsynth.trainable import TrainableModel
from ctsynth.training import checkpoint


def begun_from(config: RunConfig, start: Path, run: Path, *, overwrite: bool = False) -> RunConfig:
    """The settings of a run that begins from another, with what it begins from.

    A run that is there already has begun: it keeps what it began from, even if that has been trained on since.

    Args:
        config: Settings of the run.
        start: The other run, or a checkpoint of it.
        run: The run's folder.
        overwrite: A run that is there will be deleted first.

    Raises:
        UsageError: There is no checkpoint, or it is of a model that this one cannot begin from, or of this run.
        DataError: It is damaged.
    """
    place = str(start.absolute())
    if (run / "config.json").is_file() and not overwrite:
        before = RunConfig.read(run / "config.json").start
        if before.get("path") == place:
            return replace(config, start=before)
    found = checkpoint.find(start)
    if found.resolve().is_relative_to(run.resolve()):
        raise UsageError(f"`from` {start}: it is in the folder of this very run", hint="choose another `out`")
    other = checkpoint.verify(found)
    takes = (config.method, *find_method(config.method).begins_from)
    if other.method not in takes:
        raise UsageError(f"`from` {start}: {config.method} does not begin from {other.method}", hint=_takes(takes))
    known = "the label set of `from`"
    if LabelSet.from_json(other.labels, known) != LabelSet.from_json(config.labels, known):
        raise UsageError(f"`from` {start}: it was trained on another label set than this store's")
    if (other.level, other.width) != (config.level, config.width):
        raise UsageError(f"`from` {start}: it was trained on another HU window than this store's")
    weights = checkpoint.averaged(found, other)
    digest = other.sha256.get(weights.name) or sha256(weights)
    return replace(config, start={"path": place, "checkpoint": str(found.absolute()), "sha256": digest})


def _takes(methods: tuple[str, ...]) -> str:
    return f"it begins from a run of {' or '.join(methods)}"


def begin(model: TrainableModel, start: dict[str, Any]) -> None:
    """Loads the weights that a model begins from; parameters that are not among them stay.

    Raises:
        DataError: The file is missing, another one, or of a network of other sizes.
    """
    folder = Path(start["checkpoint"])
    file = checkpoint.averaged(folder, RunConfig.read(folder / "config.json"))
    hint = "begin from another checkpoint; `preset` and `set` must be as in its run"
    try:
        content = file.read_bytes()
        weights = safetensors.torch.load(content)
    except Exception as error:  # of several kinds, as in weights_file.load
        raise DataError(f"{file}: cannot read it: {error}", hint=hint) from error
    if sha256(file) != start["sha256"]:
        raise DataError(f"{file}: not the file that the run began from", hint=hint)
    own = model.state_dict()
    odd = [name for name, values in weights.items() if name not in own or own[name].shape != values.shape]
    if odd:
        raise DataError(f"{file}: {len(odd)} of {len(weights)} tensors do not fit, such as {min(odd)}", hint=hint)
    model.load_state_dict(own | weights)
