"""The arms of a study as data sets for nnU-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ctsynth.augment.carry_out import training_sets
from ctsynth.augment.nnunet import Case, Dataset, write_datasets
from ctsynth.augment.plan import Run
from ctsynth.augment.study import Study
from ctsynth.data.slices import stack, stacked_geometry
from ctsynth.data.store import Subject
from ctsynth.data.volume import Volume

FIRST = 101
"""Number of the first data set."""


def export_nnunet(
    study: Study, out: Path, progress: Callable[..., None] = lambda done, note="": None
) -> Iterator[Path]:
    """Writes a raw data set for each arm, fraction and draw, and yields their folders.

    Generators are trained and volumes drawn if need be, segmenters are not. CutMix is no data and is left out.
    nnU-Net draws batches from all cases alike: half of them are real at dose 1 alone.

    Args:
        study: The study.
        out: Folder for the data sets.
        progress: Called with the number of cases written, and a few words.

    Raises:
        UsageError: There is a file of the user's in the way.
        RunError: A generator fails, or a file cannot be written.
    """
    by_name = study.store.subjects_by_name
    datasets = [
        Dataset(
            number=FIRST + number,
            name=_name(run),
            train=[_case(subject) for subject in content.subjects],
            validation=[_case(by_name[name]) for name in run.cell.validation],
            test=[_case(subject) for subject in study.store.subjects("test")],
        )
        for number, (run, content) in enumerate(training_sets(study))
    ]
    return write_datasets(out, datasets, study.store.labels, overwrite=study.overwrite, progress=progress)


def _name(run: Run) -> str:
    return f"{run.arm.folder}_x{run.dose}_f{run.cell.fraction:g}_d{run.cell.draw}"


def _case(subject: Subject) -> Case:
    key = f"{subject.record['ct_sha256']}+{subject.record['mask_sha256']}"
    return Case(subject.name, key, partial(_volumes, subject))


def _volumes(subject: Subject) -> tuple[Volume, Volume]:
    """A subject's slices as volumes: HU within the window, and labels."""
    geometry = stacked_geometry(subject.geometry, subject.size)
    ct, mask = np.asarray(subject.ct()), np.asarray(subject.mask())
    return Volume(stack(ct), geometry), Volume(stack(mask), geometry)
