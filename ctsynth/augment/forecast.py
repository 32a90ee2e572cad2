"""The plan in words, and how long it will take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ctsynth.augment import configs
from ctsynth.augment.arms import ARMS
from ctsynth.augment.plan import SEGMENTER, Plan
from ctsynth.config import RunConfig
from ctsynth.data.store import Store
from ctsynth.device import device_name
from ctsynth.methods.base import find_method
from ctsynth.training.dryrun import forecast


@dataclass(frozen=True, slots=True)
class Hours:
    """Estimated hours on one device.

    Args:
        generators: To train them.
        volumes: To draw the synthetic volumes.
        segmenters: To train them; measuring them comes on top.
    """

    generators: float
    volumes: float
    segmenters: float

    @property
    def total(self) -> float:
        """All together."""
        return self.generators + self.volumes + self.segmenters


def estimate(store: Store, plan: Plan, device: torch.device) -> Hours:
    """Times a few optimizer steps of generator and segmenter, which are forgotten; writes nothing.

    A denoising step of a slice counts as a third of its part of a training step, which also has a backward pass.

    Raises:
        UsageError: The settings of a run cannot be.
        RunError: The device has too little memory.
    """
    generators, volumes = counts(store, plan)
    segmenter = forecast(store, _segmenter(store, plan, device), device)
    training = drawing = 0.0
    if generators:
        found = forecast(store, configs.generator_config(plan.config, store, 0, device), device)
        cls = find_method(plan.config.method)
        steps = (plan.config.steps or cls.steps) if cls.samplers else 1
        training, drawing = found.seconds * generators, volumes * steps / (3 * found.images_per_s)
    return Hours(training / 3600, drawing / 3600, segmenter.seconds * len(plan.runs) / 3600)


def counts(store: Store, plan: Plan) -> tuple[int, int]:
    """How many generators the plan trains, and how many slices they draw."""
    drawing = [cell for cell in plan.cells if plan.draws_volumes(cell)]
    slices = 0.0
    for cell in drawing:
        mean = sum(store.subjects_by_name[name].slices for name in cell.train) / len(cell.train)
        slices += plan.volumes(cell) * mean
    return (len(drawing) if plan.config.generator == "own" else min(1, len(drawing))), round(slices)


def _segmenter(store: Store, plan: Plan, device: torch.device) -> RunConfig:
    return configs.segmenter_config(plan.config, store, ARMS["R"], plan.config.seed, device)


def described(store: Store, plan: Plan, device: torch.device, hours: Hours | None) -> dict[str, str]:
    """What a person reads of a plan, line by line."""
    config, segmenter = plan.config, _segmenter(store, plan, device)
    generators, slices = counts(store, plan)
    sizes = {cell.fraction: (cell.subjects, len(cell.validation)) for cell in plan.cells}
    lines = {
        "store": f"{store.root}: {len(store.subjects('train'))} train, {len(store.subjects('test'))} test",
        "fractions": ", ".join(f"{100 * fraction:g} % ({count})" for fraction, (count, _) in sizes.items()),
        "validation": ", ".join(str(count) for _, count in sizes.values()) + " of these choose the checkpoint",
        "arms": ", ".join(dict.fromkeys(run.arm.called(run.dose) for run in plan.runs)),
        "runs": f"{len(plan.runs)} segmenters; cells (fractions x draws): {len(plan.cells)},"
        f" seeds: {config.seeds}",
        "segmenter": f"{SEGMENTER}, preset {segmenter.preset}, {segmenter.training.iterations:,} steps"
        f" of {segmenter.training.batch_size} slices",
    }
    if generators:
        generator = configs.generator_config(config, store, 0, device)
        lines["generators"] = (
            f"{generators} ({'each on its fraction alone' if config.generator == 'own' else 'on all subjects'}):"
            f" {config.method}, preset {generator.preset}, {generator.training.iterations:,} steps"
        )
        lines["volumes"] = f"{sum(map(plan.volumes, plan.cells)):,} synthetic, {slices:,} slices"
    for number, reason in enumerate(plan.left_out):
        lines["left out" if not number else " " * number] = reason
    if hours:
        lines["time"] = (
            f"about {_hours(hours.total)} for all on one {device_name(device)}: {_hours(hours.generators)} for"
            f" generators, {_hours(hours.volumes)} for volumes, {_hours(hours.segmenters)} for segmenters"
        )
    if (shares := len(plan.cells)) > 1:
        lines["shares"] = f"up to {shares}: sbatch --array=1-{shares}, --shard slurm"
    return lines


def as_json(store: Store, plan: Plan, hours: Hours) -> dict[str, Any]:
    """The plan for programs."""
    generators, slices = counts(store, plan)
    return {
        "study": asdict(plan.config),
        "cells": [asdict(cell) | {"folder": cell.folder} for cell in plan.cells],
        "runs": [run.folder for run in plan.runs],
        "left_out": list(plan.left_out),
        "generators": generators,
        "synthetic_slices": slices,
        "hours": asdict(hours) | {"total": hours.total},
    }


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"
