"""The study's settings, and every run that they ask for, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ctsynth.augment.arms import ARMS, BASELINE, DRAWN, PROTOCOL, Arm
from ctsynth.augment.cells import Cell, make_cells
from ctsynth.config import Iterations
from ctsynth.data.store import Store
from ctsynth.errors import UsageError
from ctsynth.schema import Range, check

SEGMENTER = "unet2d"

SEEDS = Range(0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """What is compared, and how. The defaults are the whole protocol."""

    arms: tuple[str, ...] = PROTOCOL
    """Names from ``ARMS``; the baseline is always run."""

    fractions: tuple[float, ...] | None = None
    """Shares of the training subjects; None is 5, 10, 25, 50 and 100 %, as far as they differ."""

    draws: Annotated[int, Range(1, 1000)] = 3
    """Drawings of subjects for each fraction below 1."""

    seeds: Annotated[int, Range(1, 1000)] = 3
    """Segmenters of each arm, fraction and draw."""

    doses: tuple[Annotated[int, Range(1, 100)], ...] = (1, 2, 4)
    """Other subjects to each real one. Arms that are not ``dosed`` have the first alone."""

    generator: Literal["own", "all"] = "own"
    """Trained on the fraction alone, or one on all training subjects."""

    method: str = "ddpm-mask"
    """That of the generator."""

    preset: Literal["auto", "paper", "small", "tiny"] = "auto"
    """Of the generator; the segmenter's is the same, or ``default`` for ``paper``."""

    iterations: Iterations | None = None
    """Optimizer steps of every segmenter; None is the preset's."""

    generator_iterations: Iterations | None = None
    """Optimizer steps of every generator; None is the preset's."""

    steps: Annotated[int, Range(1, 1000)] | None = None
    """Denoising steps of a slice; None is the method's."""

    seed: Annotated[int, SEEDS] = 0
    """Chooses subjects, deformations and initial weights."""

    segmenter_options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the segmenter's network."""

    generator_options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the generator."""

    def __post_init__(self) -> None:
        check(self)
        if unknown := [name for name in self.arms if name not in ARMS]:
            raise UsageError(f"no arm is called {unknown[0]!r}", hint=f"there are: {', '.join(ARMS)}")
        if not self.doses or len(set(self.doses)) < len(self.doses):
            raise UsageError(f"doses are {list(self.doses)}, wanted one or more different numbers")

    def as_json(self) -> dict[str, Any]:
        """What decides the result of a run; the other settings decide which runs there are."""
        names = ("generator", "method", "preset", "iterations", "generator_iterations", "steps", "seed")
        own = {name: getattr(self, name) for name in (*names, "segmenter_options", "generator_options")}
        content: dict[str, Any] = json.loads(json.dumps(own))  # as a file gives it back: lists for tuples
        return content


@dataclass(frozen=True, slots=True)
class Run:
    """One segmenter to train and to measure.

    Args:
        cell: Its real subjects.
        arm: What it is trained on.
        dose: Other subjects to each real one; 1 where the arm has none.
        seed: Of its initial weights and its draws.
    """

    cell: Cell
    arm: Arm
    dose: int
    seed: int

    @property
    def folder(self) -> str:
        """Its folder in that of the study."""
        dose = f"-x{self.dose}" if self.dose > 1 else ""
        return f"{self.cell.folder}/{self.arm.folder}{dose}/seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All runs.

    Args:
        config: The settings.
        cells: Fractions and draws.
        runs: The segmenters, cell by cell.
        left_out: Arms that a fraction has too few subjects for, and why.
    """

    config: StudyConfig
    cells: tuple[Cell, ...]
    runs: tuple[Run, ...]
    left_out: tuple[str, ...]

    def of_cell(self, cell: Cell) -> list[Run]:
        """The runs of a cell."""
        return [run for run in self.runs if run.cell == cell]

    def draws_volumes(self, cell: Cell) -> bool:
        """Whether an arm of a cell needs a generator."""
        return any(run.arm.others in DRAWN for run in self.of_cell(cell))

    def volumes(self, cell: Cell) -> int:
        """How many synthetic volumes a cell's runs need."""
        needed = {
            (run.arm.others, copy)
            for run in self.of_cell(cell)
            if run.arm.others in DRAWN
            for copy in range(run.dose)
        }
        return len(cell.train) * len(needed)


def make_plan(store: Store, config: StudyConfig) -> Plan:
    """The runs of a study on a store; writes nothing.

    Raises:
        UsageError: The settings ask for what the store does not have.
    """
    names = [subject.name for subject in store.subjects("train")]
    if not store.subjects("test"):
        raise UsageError(
            f"{store.root}: no test subjects to measure on",
            hint="choose some: ctsynth preprocess --test-subjects, --test-fraction or --split",
        )
    cells = make_cells(names, config.fractions, config.draws, config.seed)
    runs: list[Run] = []
    left_out: dict[str, None] = {}
    for cell in cells:
        for name, arm in ARMS.items():
            if name != BASELINE and name not in config.arms:
                continue
            for dose in _doses(arm, config):
                if reason := _impossible(arm, dose, cell):
                    left_out[f"{arm.called(dose)} at {100 * cell.fraction:g} %: {reason}"] = None
                else:
                    runs += [Run(cell, arm, dose, config.seed + seed) for seed in range(config.seeds)]
    return Plan(config, tuple(cells), tuple(runs), tuple(left_out))


def _doses(arm: Arm, config: StudyConfig) -> tuple[int, ...]:
    if arm.others is None:
        return (1,)
    return config.doses if arm.dosed else config.doses[:1]


def _impossible(arm: Arm, dose: int, cell: Cell) -> str:
    """Why a cell has too few subjects for an arm; empty if it has enough."""
    if arm.others == "further" and dose * len(cell.train) > len(cell.further):
        return f"it takes {dose * len(cell.train)} further subjects, and there are {len(cell.further)}"
    if arm.others == "shuffled" and len(cell.train) < 2:
        return "it takes 2 subjects to exchange labels"
    return ""
