"""From a store and a few choices to a trained run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ctsynth import __version__
from ctsynth.config import RunConfig, TrainingConfig, build
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Store
from ctsynth.device import find_precision
from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.stop import Stop
from ctsynth.training.loop import Trainer
from ctsynth.training.sheet import SampleSheet


def configure(
    store: Store,
    method: str,
    *,
    preset: str,
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    device: torch.device,
) -> RunConfig:
    """Everything a run is made with: the preset, then what was said otherwise.

    Args:
        store: What it trains on.
        method: By name.
        preset: One of the method's; ``auto`` is ``paper`` on a GPU, else ``small`` where the method has it.
        options: The method's own settings.
        training: Those of ``TrainingConfig``.
        device: Where it will run.

    Raises:
        UsageError: An unknown preset or setting, or a value that cannot be.
    """
    cls = base.find(method)
    if preset == "auto":
        preset = "paper" if device.type == "cuda" or "small" not in cls.presets else "small"
    if preset not in cls.presets:
        raise UsageError(f"{method} has no preset {preset!r}", hint=f"there are: {', '.join(cls.presets)}")
    chosen = cls.presets[preset]
    settings = build(TrainingConfig, {**chosen.training, **training}, f"training settings of {method}")
    settings = replace(settings, precision=find_precision(settings.precision, device))
    own = build(cls.Options, {**chosen.options, **options}, method)
    subjects = store.subjects("train")
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
            "slices": sum(subject.slices for subject in subjects),
        },
        version=__version__,
    )


def train(
    store: Store,
    run: Path,
    config: RunConfig,
    *,
    device: torch.device,
    stop: Stop,
    progress: Callable[..., None] = lambda done, note="": None,
) -> None:
    """Trains a run, or continues it.

    Args:
        store: Its training slices, and the test masks of the sample sheets.
        run: The run's folder.
        config: From ``configure``.
        device: Where.
        stop: Tells when to save and stop.
        progress: Called with the steps done and a few words.

    Raises:
        Interrupted: A signal came and the run was saved.
        RunError: A loss is not finite, or a checkpoint cannot be written.
    """
    precision = config.training.precision
    test = SliceDataset(store, "test")
    shown = test if len(test) else SliceDataset(store, "train")
    sheet = SampleSheet(shown, store.labels, device=device, precision=precision)
    trainer = Trainer(run, config, SliceDataset(store, "train"), sheet, device=device, precision=precision)
    trainer.train(stop, progress)
