"""What is known of a segmenter of the study when it is done: RUN/result.json."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

from ctsynth import __version__, history
from ctsynth.augment.evaluate import Measured, organs
from ctsynth.augment.plan import Plan, Run
from ctsynth.config import MAY_CHANGE, RunConfig
from ctsynth.data.store import Store
from ctsynth.errors import DataError, RunError
from ctsynth.files import write_json
from ctsynth.schema import Range, read

NAME = "result.json"

SCHEMA = 1


class _Training(TypedDict):
    batch_size: int


class Work(TypedDict):
    """What was done to train a segmenter: what must be equal in all arms, but for the seed."""

    steps: int
    slices: int
    seed: int
    training: _Training
    precision: str
    network: dict[str, Any]
    size: int
    device: str


class Record(TypedDict):
    """The content of result.json."""

    made_from: dict[str, Any]
    work: Work
    chosen: int
    validation: dict[str, float]
    weights_sha256: str
    seconds: Annotated[float, Range(0)]
    measured: Measured
    sha256: str


def made_from(store: Store, plan: Plan, run: Run) -> dict[str, Any]:
    """What decides a run's result."""
    return {
        "store": store.digest,
        "study": plan.config.as_json(),
        "arm": run.arm.name,
        "dose": run.dose,
        "seed": run.seed,
        "train": list(run.cell.train),
        "validation": list(run.cell.validation),
        "further": list(run.cell.further[: run.dose * len(run.cell.train)]) if run.arm.others == "further" else [],
    }


def work_of(folder: Path, device: str) -> Work:
    """What was done to train a segmenter, from the files of its run.

    Args:
        folder: The run.
        device: Its kind: numbers of a GPU and of a CPU differ.

    Raises:
        DataError: A file of the run is missing or damaged.
    """
    config = RunConfig.read(folder / "config.json")
    rows = history.rows(folder / "metrics.jsonl")
    own = {"seed", "iterations"}
    training = dataclasses.asdict(config.training)
    return Work(
        steps=int(rows[-1]["step"]) if rows else 0,
        slices=(int(rows[-1]["step"]) if rows else 0) * config.training.batch_size,
        seed=config.training.seed,
        training=cast("_Training", {k: v for k, v in training.items() if k not in (MAY_CHANGE | own)}),
        precision=config.training.precision,
        network={key: value for key, value in config.options.items() if key != "cutmix"},
        size=config.size,
        device=device,
    )


def seconds_of(folder: Path) -> float:
    """Seconds that a run's optimizer steps took, resumed or not, from its log."""
    batch, before, seconds = RunConfig.read(folder / "config.json").training.batch_size, 0.0, 0.0
    for row in history.rows(folder / "metrics.jsonl"):
        seconds += (row["step"] - before) * batch / row["images_per_s"] if row.get("images_per_s") else 0.0
        before = row["step"]
    return seconds


def save(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes the record of a run, with the SHA-256 of its content."""
    content = {"schema": SCHEMA, "version": __version__, **content}
    write_json(folder / NAME, content | {"sha256": _digest(content)})


def load(folder: Path) -> Record | None:
    """The record of a run; None where it is missing or damaged."""
    try:
        record = read(folder / NAME, Record, schema=SCHEMA)
    except DataError:
        return None
    return record if record["sha256"] == _digest(record) else None


def is_complete(record: Record, store: Store) -> bool:
    """Whether a record has every organ of every test subject, and nothing else."""
    names = set(organs(store.labels).values())
    wanted = {subject.name: names for subject in store.subjects("test")}
    measured = record["measured"]
    return all(
        {subject: set(by_organ) for subject, by_organ in one.items()} == wanted
        for one in (measured["dice"], measured["nsd"])
    )


def _digest(content: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def refuse_unequal(records: Mapping[Run, Record]) -> None:
    """Refuses arms of which one was trained longer, or otherwise, than another.

    Raises:
        RunError: Steps, batch, schedule, augmentation, network or seed of two runs differ.
    """
    (first, reference), *others = records.items()
    for run, record in [(first, reference), *others]:
        wanted = reference["work"] | {"seed": run.seed}
        for key, value in wanted.items():
            if (found := record["work"].get(key)) != value:
                raise RunError(
                    f"{run.folder}: its {key} is {found}; it is {value} in {first.folder}",
                    hint="arms compare at equal work only: run the study again with `overwrite`",
                )
