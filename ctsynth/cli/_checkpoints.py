"""Checkpoints, and the volumes that are drawn with them to be scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctsynth.cli import console
from ctsynth.errors import UsageError

if TYPE_CHECKING:
    from ctsynth.sampling.batches import SamplingConfig
    from ctsynth.sampling.cases import Case
    from ctsynth.training.checkpoint import Trained


def checkpoints_of(run: Path, wanted: str) -> list[Path]:
    """A run's checkpoints of these steps.

    Raises:
        UsageError: It has none, or not these.
    """
    from ctsynth.training.checkpoint import saved, step_of

    there = {str(step_of(path)): path for path in saved(run)}
    asked = list(there) if wanted == "all" else [step.strip() for step in wanted.split(",")]
    if missing := [step for step in asked if step not in there]:
        raise UsageError(
            f"{run}: no checkpoint of step {missing[0]}", hint=f"there are: {', '.join(there) or 'none'}"
        )
    if not asked:
        raise UsageError(
            f"{run}: no checkpoints", hint="--checkpoint wants a training run, such as runs/ddpm-mask"
        )
    return [there[step] for step in asked]


def draw_volumes(
    trained: Trained,
    cases: list[Case],
    sampling: SamplingConfig,
    shard: str | None,
    title: str,
    *,
    overwrite: bool,
) -> None:
    """Draws the volumes of a split, or a shard of them, by one checkpoint."""
    from ctsynth.files import sole
    from ctsynth.sampling import volumes
    from ctsynth.shards import lock_name, take
    from ctsynth.stop import Stop

    shard = shard or "1/1"
    folder, cases = cases[0].out.parent, take(cases, shard)
    with (
        Stop() as stop,
        sole(folder / lock_name("sample", shard)),
        console.progress(f"sample {title}", len(cases)) as progress,
    ):
        for _ in volumes.sample(trained, cases, sampling, stop=stop, overwrite=overwrite, progress=progress):
            pass
