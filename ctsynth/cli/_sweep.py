"""``ctsynth score --sweep``: what it draws, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctsynth.cli import console
from ctsynth.cli._checkpoints import draw_volumes
from ctsynth.device import DeviceName
from ctsynth.errors import UsageError
from ctsynth.sampling.settings import SamplingSettings

if TYPE_CHECKING:
    from ctsynth.cli._scoring import Work
    from ctsynth.diffusion.samplers import Sampler
    from ctsynth.sampling.batches import SamplingConfig
    from ctsynth.sampling.cases import Case
    from ctsynth.scoring.result import Result
    from ctsynth.training.checkpoint import Trained

STEPS: Mapping[str, tuple[int, ...]] = {"dpm++": (5, 10, 20, 50), "ddim": (50, 250), "ddpm": (250, 1000)}
"""Steps of each sampler, unless others are named."""

HINT = "say --sweep sampler=all, or --sweep sampler=dpm++,ddim --steps 5,10,20,50"


def run(work: Work, model: Path, wanted: str, steps: str | None, out: Path | None, device: DeviceName) -> None:
    """Draws, times and scores the volumes of one checkpoint by each sampler, and plots the scores.

    Args:
        work: Collects the scores.
        model: A run or a checkpoint.
        wanted: As ``sweep`` of ``samplers_of``.
        steps: As there.
        out: Folder of the checkpoint's folder; None is RUN/sweep.
        device: Where to draw.
    """
    from ctsynth.device import find_device
    from ctsynth.reporting.sweep import SECONDS, refuse_other_plot, save_plot
    from ctsynth.sampling.batches import resolve
    from ctsynth.sampling.cases import cases_of_store
    from ctsynth.training import checkpoint

    path, shard, overwrite = checkpoint.find(model), work.how["shard"], work.how["overwrite"]
    run_folder = path.parent.parent if path.parent.name == "checkpoints" else path
    folder = (out or run_folder / "sweep") / path.name
    plot = folder / "sweep.png"
    refuse_other_plot(plot)
    where = find_device(device)
    trained = checkpoint.load(path, where)
    plain = resolve(SamplingSettings(), trained.method, where)
    scored = {}
    for sampler in list(samplers_of(wanted, steps, trained)):
        title, volumes = f"{sampler.name} {sampler.steps}", folder / f"{sampler.name}_{sampler.steps}"
        target, sampling = volumes / "scores.json", replace(plain, sampler=sampler)
        cases = cases_of_store(work.store, work.split, trained, volumes)
        draw_volumes(trained, cases, sampling, shard, title, overwrite=overwrite)
        more = {} if shard else {SECONDS: time_slices(trained, cases[0], sampling, target, overwrite=overwrite)}
        scores = work.score(volumes, target, title, more)
        if scores is not None:
            scored[sampler.name, sampler.steps] = scores
    if scored:
        save_plot(scored, plot)
        console.log.info("written: %s", plot)


def samplers_of(sweep: str, steps: str | None, trained: Trained) -> Iterator[Sampler]:
    """The samplers of a sweep, each with each number of steps.

    Args:
        sweep: ``sampler=A,B``, or ``sampler=all`` for all that the model takes.
        steps: Numbers, separated by commas; None for each sampler's ``STEPS``.
        trained: The model.

    Raises:
        UsageError: It has another form, or the model does not take a sampler or that many steps.
    """
    from ctsynth.diffusion.samplers import Sampler

    takes = trained.method.samplers
    if not takes:
        raise UsageError(f"{trained.config.method} draws in one pass: there is nothing to sweep")
    key, _, wanted = sweep.partition("=")
    if key != "sampler" or not wanted:
        raise UsageError(f"--sweep {sweep}: wanted sampler=NAME,...", hint=HINT)
    for name in takes if wanted == "all" else _parts(wanted):
        if name not in takes:
            raise UsageError(
                f"--sweep: {trained.config.method} does not take the sampler {name!r}",
                hint=f"it takes: {', '.join(takes)}",
            )
        for number in _numbers(steps) if steps is not None else STEPS.get(name, STEPS["dpm++"]):
            sampler = Sampler(name=name, steps=number)
            trained.method.check(sampler)
            yield sampler


def _numbers(steps: str) -> list[int]:
    try:
        return [int(part) for part in _parts(steps)]
    except ValueError:
        raise UsageError(f"--steps {steps}: wanted whole numbers, separated by commas", hint=HINT) from None


def _parts(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def time_slices(
    trained: Trained, case: Case, sampling: SamplingConfig, scored: Path, *, overwrite: bool
) -> Result:
    """Seconds a slice; those in a file of scores, if they are of the same weights.

    Args:
        trained: The model.
        case: Whose masks are drawn.
        sampling: How.
        scored: The scores, which may not be there yet.
        overwrite: Measure again.
    """
    from ctsynth.device import device_name
    from ctsynth.reporting.sweep import SECONDS, timing
    from ctsynth.sampling.speed import seconds_per_slice
    from ctsynth.scoring.scores import Scores

    if scored.exists() and not overwrite:
        kept = Scores.load(scored).metrics.get(SECONDS)
        if kept is not None and kept.settings.get("weights_sha256") == trained.digest:
            return kept
    settings = {
        "device": device_name(sampling.device),
        "precision": sampling.precision,
        "batch_size": sampling.chunk_for(trained.method) or sampling.batch_size,
        "weights_sha256": trained.digest,
    }
    return timing(seconds_per_slice(trained, case, sampling), settings)
