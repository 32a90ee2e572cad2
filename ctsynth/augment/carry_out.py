"""Goes through the cells of a study: trains what is missing, or gives what each arm is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ctsynth.augment.cell_work import CellWork
from ctsynth.augment.mixing import TrainingSet
from ctsynth.augment.plan import Run
from ctsynth.augment.study import Study
from ctsynth.files import sole
from ctsynth.shards import take
from ctsynth.stop import Stopped


def carry_out(
    study: Study, shard: str = "1/1", progress: Callable[..., None] = lambda done, note="": None
) -> None:
    """Makes what is missing of a study.

    Args:
        study: The study.
        shard: I/N: every N-th cell, beginning with the I-th.
        progress: Called with the number of segmenters done, and a few words.

    Raises:
        Interrupted: A signal came; what was at hand is saved.
        RunError: A loss is not finite, or a file cannot be written.
    """
    cells = take(study.plan.cells, shard)
    runs = [run for cell in cells for run in study.plan.of_cell(cell)]
    done = 0
    try:
        for cell in cells:
            with sole(study.out / cell.folder / ".augment.lock"):
                work = CellWork(study, cell, shard)
                for run in study.plan.of_cell(cell):
                    progress(done, run.folder)
                    if study.overwrite or study.record(run) is None:
                        work.carry_out(run, partial(progress, done))
                    done += 1
                    progress(done, run.folder)
                if study.plan.draws_volumes(cell) and study.copies(cell) is None:
                    work.count_copies()
    except Stopped:
        raise study.stop.interrupted(
            f"SIGNAL: {done} of {len(runs)} segmenters are done", "the same command goes on with the next"
        ) from None


def training_sets(study: Study) -> Iterator[tuple[Run, TrainingSet]]:
    """What each arm of each cell is trained on, made if need be; but for CutMix, which is no data."""
    for cell in study.plan.cells:
        with sole(study.out / cell.folder / ".augment.lock"):
            work = CellWork(study, cell, "1/1")
            for run in study.plan.of_cell(cell):
                if run.seed == study.plan.config.seed and not run.arm.cutmix:
                    yield run, work.training_set(run)
