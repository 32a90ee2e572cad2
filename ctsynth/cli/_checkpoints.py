"""The checkpoints of a run, drawn to be scored one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctsynth.cli import console
from ctsynth.errors import UsageError

if TYPE_CHECKING:
    from ctsynth.data.store import Store
    from ctsynth.stop import Stop


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


def draw_checkpoint(
    path: Path,
    store: Store,
    split: str,
    folder: Path,
    preset: str,
    device: str,
    shard: str | None,
    stop: Stop,
    overwrite: bool,
) -> None:
    """Draws the volumes of a split by one checkpoint."""
    from ctsynth.device import find_device, find_precision
    from ctsynth.files import sole
    from ctsynth.sampling import volumes
    from ctsynth.sampling.batches import SamplingConfig, pick_sampler
    from ctsynth.sampling.cases import cases_of_store
    from ctsynth.shards import lock_name, take
    from ctsynth.training import checkpoint

    where = find_device(device)
    trained = checkpoint.load(path, where)
    sampling = SamplingConfig(
        sampler=pick_sampler(trained.method, preset),
        batch_size=4 if where.type == "cpu" else 16,
        device=where,
        precision=find_precision("auto", where),
    )
    shard = shard or "1/1"
    cases = take(cases_of_store(store, split, trained, folder), shard)
    with (
        sole(folder / lock_name("sample", shard)),
        console.progress(f"sample {path.name}", len(cases)) as progress,
    ):
        for _ in volumes.sample(trained, cases, sampling, stop=stop, overwrite=overwrite, progress=progress):
            pass
