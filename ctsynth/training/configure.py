"""Resolves all settings of a run: the preset, then what was chosen otherwise."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from ctsynth import __version__, trainable
from ctsynth.config import RunConfig, TrainingConfig, build
from ctsynth.data.store import Store
from ctsynth.device import check_compiler, find_precision
from ctsynth.errors import UsageError
from ctsynth.training.tensorboard import check_installed

log = logging.getLogger(__name__)

WORTH_COMPILING = 5_000
"""Iterations from which on a GPU compiling gains more than the minutes it takes."""


def configure(
    store: Store,
    method: str,
    *,
    preset: str,
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    device: torch.device,
) -> RunConfig:
    """Resolves the settings of a run: the preset's, then those that were given.

    Args:
        store: What it trains on.
        method: A method or a segmenter, by name.
        preset: One of the method's; ``auto`` is its first on a GPU, else ``small`` where the method has it.
        options: The method's own settings.
        training: Those of ``TrainingConfig``.
        device: Where it will run.

    Raises:
        UsageError: An unknown preset or setting, or a value that cannot be.
    """
    cls = trainable.find_model(method)
    if preset == "auto":
        preset = next(iter(cls.presets)) if device.type == "cuda" or "small" not in cls.presets else "small"
    if preset not in cls.presets:
        raise UsageError(f"{method} has no preset {preset!r}", hint=f"there are: {', '.join(cls.presets)}")
    chosen = cls.presets[preset]
    own = cls.resolve(build(cls.Options, {**chosen.options, **options}, method))
    subjects = store.subjects("train")
    slices = sum(subject.slices for subject in subjects)
    settings = _training(chosen.training, training, slices)
    if settings.checkpointing and not cls.blocks:
        raise UsageError(
            f"{method} does not take `checkpointing`", hint="to save memory, say `accumulate` 2 or more"
        )
    if settings.compile:
        check_compiler(device)
    elif "compile" not in {**chosen.training, **training}:
        settings = replace(settings, compile=_compile_by_default(settings.iterations, device))
    if settings.tensorboard:
        check_installed()
    settings = replace(settings, precision=find_precision(settings.precision, device))
    return RunConfig(
        method=method,
        size=store.size,
        options=asdict(own),
        training=settings,
        labels=store.labels.as_json(),
        level=store.window.level,
        width=store.window.width,
        preset=preset,
        data={
            "path": str(store.root.absolute()),
            "digest": store.digest,
            "subjects": len(subjects),
            "slices": slices,
        },
        version=__version__,
    )


def _training(preset: Mapping[str, Any], named: Mapping[str, Any], slices: int) -> TrainingConfig:
    """The preset's training settings with those that were given; epochs become iterations."""
    if "iterations" in named and "epochs" in named:
        raise UsageError("`iterations` and `epochs`: name one of the two")
    length = {"iterations", "epochs"}
    kept = {key: value for key, value in preset.items() if not (key in length and length & named.keys())}
    settings = build(TrainingConfig, {**kept, **named}, "")
    if settings.epochs is None:
        return settings
    return replace(settings, iterations=math.ceil(settings.epochs * slices / settings.batch_size))


def _compile_by_default(iterations: int, device: torch.device) -> bool:
    """Whether a run is compiled by default: on a GPU, if it is long enough to gain by it."""
    if device.type != "cuda" or iterations < WORTH_COMPILING:
        return False
    try:
        check_compiler(device)
    except UsageError as error:
        log.warning("%s; training without, which is slower", error.message)
        return False
    return True


def resolved_before(run: Path, method: str) -> dict[str, Any]:
    """What the first start of a run decided where the method's options say ``auto``; empty for a new run."""
    file = run / "config.json"
    if not file.exists():
        return {}
    before = RunConfig.read(file)
    if before.method != method:
        return {}
    left = {field.name for field in fields(trainable.find_model(method).Options) if field.default == "auto"}
    return {key: value for key, value in before.options.items() if key in left}
