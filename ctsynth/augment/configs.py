"""The settings of the study's training runs: the same for all segmenters, but for the seed and CutMix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ctsynth.augment.arms import Arm
from ctsynth.augment.plan import SEGMENTER, StudyConfig
from ctsynth.config import RunConfig
from ctsynth.data.store import Store
from ctsynth.errors import UsageError
from ctsynth.methods.base import find_method
from ctsynth.training.configure import configure

CHECKPOINTS = 5
"""From which the validation subjects choose, spread evenly over a segmenter's training."""

CUTMIX = 0.5
"""Share of slices that get a box of another slice."""


def segmenter_config(study: StudyConfig, view: Store, arm: Arm, seed: int, device: torch.device) -> RunConfig:
    """How a segmenter is trained.

    Args:
        study: The study's settings.
        view: The store with the subjects of the arm.
        arm: The arm.
        seed: Of weights and draws.
        device: Where.

    Raises:
        UsageError: A batch of these settings has no two equal halves.
    """
    options = dict(study.segmenter_options) | ({"cutmix": CUTMIX} if arm.cutmix else {})
    training: dict[str, Any] = {"seed": seed} | _given(iterations=study.iterations)
    preset = "default" if study.preset == "paper" else study.preset
    config = configure(view, SEGMENTER, preset=preset, options=options, training=training, device=device)
    if config.training.batch_size % 2:
        raise UsageError(f"batch_size is {config.training.batch_size}: wanted an even one, half of it real")
    every = -(-config.training.iterations // CHECKPOINTS)
    return replace(config, training=replace(config.training, save_every=every, keep_every=every))


def generator_config(study: StudyConfig, view: Store, seed: int, device: torch.device) -> RunConfig:
    """How a generator is trained.

    Args:
        study: The study's settings.
        view: The store with the subjects that it learns from.
        seed: Of weights and draws.
        device: Where.
    """
    find_method(study.method)  # and not a segmenter
    training = {"seed": seed} | _given(iterations=study.generator_iterations)
    return configure(
        view, study.method, preset=study.preset, options=study.generator_options, training=training, device=device
    )


def _given(**settings: int | None) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
