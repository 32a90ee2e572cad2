"""Mean and standard deviation of several volumes drawn from one mask: where the model is sure, and where not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.formats import record_beside, renamed, stem
from ctsynth.data.record import Standing, look, save
from ctsynth.data.volume import Volume
from ctsynth.errors import UsageError
from ctsynth.files import read_json, sha256
from ctsynth.outputs import refuse_inputs
from ctsynth.sampling.cases import Case
from ctsynth.sampling.record import DESCRIPTION, KIND

log = logging.getLogger(__name__)

SAMPLES = "samples_sha256"
"""In the record beside a mean or a standard deviation: of the volumes that it is of."""


def outputs(case: Case) -> dict[str, Path]:
    """Where the summaries of a case's samples go: NAME_mean and NAME_std.

    Raises:
        UsageError: Its format has no fractions of a HU.
    """
    if case.out.suffix == ".dicom":
        raise UsageError(
            "`uncertainty`: a DICOM CT holds whole numbers of HU", hint="say `format` nii.gz, nrrd or mha"
        )
    name = stem(case.out).removesuffix("_synthetic")
    return {kind: renamed(case.out, f"{name}_{kind}") for kind in ("mean", "std")}


def check(cases: Sequence[Case]) -> None:
    """Refuses summaries over inputs, or over files that are none of ours, before anything is drawn.

    Raises:
        UsageError: There is one.
    """
    paths = [path for case in cases for path in outputs(case).values()]
    refuse_inputs([*paths, *map(record_beside, paths)], [path for case in cases for path in case.inputs])
    for path in paths:
        standing, found = look(path, KIND)
        if standing is Standing.FOREIGN or (standing is not Standing.FREE and SAMPLES not in found):
            raise UsageError(f"{path}: not overwritten: it is not a summary of samples", hint="move it elsewhere")


def summarize(case: Case, samples: Sequence[Case], *, overwrite: bool = False) -> Iterator[Path]:
    """Writes mean and standard deviation of a mask's samples, voxel by voxel in HU, and yields their paths.

    The standard deviation divides by one less than the number of samples. Summaries of these very samples that
    are whole are kept.

    Args:
        case: The mask's, before ``samples_of``.
        samples: Two or more, all drawn.
        overwrite: Replace summaries of other samples.

    Raises:
        UsageError: A summary of other samples is there, or one that was changed.
    """
    hashes = [sha256(sample.out) for sample in samples]
    paths = outputs(case)
    if all(_is_whole(path, hashes, overwrite=overwrite) for path in paths.values()):
        for path in paths.values():
            log.info("%s is whole: skipped", path)
            yield path
        return
    mean: NDArray[Any] = np.zeros(1, np.float32)
    squares: NDArray[Any] = np.zeros(1, np.float32)
    for count, sample in enumerate(samples, 1):  # Welford's
        volume = Volume.load(sample.out)
        difference = volume.voxels - mean
        mean = mean + difference / count
        squares = squares + difference * (volume.voxels - mean)
    arrays = {"mean": mean, "std": np.sqrt(squares / (len(samples) - 1))}
    first = read_json(record_beside(samples[0].out))
    for kind, path in paths.items():
        record: Mapping[str, Any] = {**first, "summary": kind, SAMPLES: hashes}
        save(
            Volume(arrays[kind].astype(np.float32), volume.geometry),
            path,
            f"{DESCRIPTION}: {kind} of samples",
            record,
        )
        yield path


def _is_whole(path: Path, hashes: Sequence[str], *, overwrite: bool) -> bool:
    standing, found = look(path, KIND)
    if standing is Standing.FREE or overwrite:
        return False
    if standing is Standing.CHANGED or found.get(SAMPLES) != hashes:
        what = "changed since it was made" if standing is Standing.CHANGED else "made of other samples"
        raise UsageError(f"{path}: {what}", hint="move it elsewhere, or draw all again with `overwrite`")
    return standing is Standing.WHOLE
