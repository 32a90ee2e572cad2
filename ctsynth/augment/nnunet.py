"""Raw data sets of nnU-Net, one for each arm, with the same validation and test cases in all of them.

    OUT/nnUNet_raw/DatasetNNN_NAME/dataset.json                     written last
    OUT/nnUNet_raw/DatasetNNN_NAME/imagesTr/CASE_0000.nii.gz        int16 HU, with its record CASE_0000.json
    OUT/nnUNet_raw/DatasetNNN_NAME/labelsTr/CASE.nii.gz             organs from 1 on; body and tissues are 0
    OUT/nnUNet_raw/DatasetNNN_NAME/{imagesTs,labelsTs}              the test cases; nnU-Net does not read them
    OUT/nnUNet_preprocessed/DatasetNNN_NAME/splits_final.json       one fold: training and validation cases

With the variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results set to folders of those names in OUT, every
data set is planned by ``nnUNetv2_plan_and_preprocess -d NNN --verify_dataset_integrity`` and trained as fold 0. A
case that is in several data sets takes its space once: its files are hard links, where the file system has them.

nnU-Net plans each data set by itself, so an arm of more cases may get another network or batch. For arms that
differ in nothing but their cases, give all of them one plan, such as by
``nnUNetv2_move_plans_between_datasets -s 701 -t 702 -sp nnUNetPlans -tp nnUNetPlans_701``, and preprocess with it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth import __version__
from ctsynth.data.formats import record_beside
from ctsynth.data.record import DIGEST, Kind, Standing, claim, look, save
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError, UsageError
from ctsynth.files import atomic, read_json, write_json
from ctsynth.labels import LabelSet
from ctsynth.outputs import check_length, plain_name, refuse_foreign

DESCRIPTION = "ctsynth: a case for nnU-Net"
KIND = Kind(DESCRIPTION, frozenset({"case", "key", "nnunet"}))
"""Record of an image or label volume that was written here."""

REFERENCE = "ctsynth augment --export nnunet"
"""Tells our dataset.json from others."""

NUMBERS = range(1, 1000)
"""Of data sets."""

_NAME = re.compile(r"[\w.+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Case:
    """An image and its labels.

    Args:
        name: Within its data set.
        key: Stands for all that the case is made from: with the same key it is not written again.
        read: Makes the image (HU) and the label volume (ids of the label set), on one grid.
    """

    name: str
    key: str
    read: Callable[[], tuple[Volume, Volume]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What one arm learns from.

    Args:
        number: 1 to 999, one of a kind.
        name: Of letters, digits and ``_ . + -``.
        train: Training cases.
        validation: Cases that choose the checkpoint: the same in all arms that are compared.
        test: Cases that nnU-Net never reads.
    """

    number: int
    name: str
    train: Sequence[Case]
    validation: Sequence[Case]
    test: Sequence[Case] = ()

    def __post_init__(self) -> None:
        names = [case.name for case in (*self.train, *self.validation, *self.test)]
        if self.number not in NUMBERS or not _NAME.fullmatch(self.name):
            raise ValueError(f"no data set of nnU-Net: number {self.number}, name {self.name!r}")
        if len(set(names)) < len(names) or not self.train or not self.validation:
            raise ValueError(f"{self.folder}: wanted training and validation cases of different names")

    @property
    def folder(self) -> str:
        """DatasetNNN_NAME."""
        return f"Dataset{self.number:03}_{self.name}"


@dataclass(frozen=True, slots=True)
class _File:
    """A volume to write: an image or a label volume."""

    path: Path
    case: Case
    is_image: bool

    @property
    def record(self) -> dict[str, Any]:
        """What the record beside it says of it."""
        return {
            "nnunet": "image" if self.is_image else "labels",
            "case": self.case.name,
            "key": self.case.key,
            "version": __version__,
        }


_Pair = tuple[_File, _File]


def write_datasets(
    out: Path,
    datasets: Sequence[Dataset],
    labels: LabelSet,
    *,
    overwrite: bool = False,
    progress: Callable[..., None] = lambda done, note="": None,
) -> Iterator[Path]:
    """Writes the data sets and yields their folders, each when it is whole; cases that are whole are skipped.

    Args:
        out: Folder for all of them.
        datasets: One an arm.
        labels: The label set of the cases' labels.
        overwrite: Write all cases again, and remove those that a data set no longer has.
        progress: Called with the number of cases done, and the name of the one at hand.

    Raises:
        UsageError: Two data sets have one number, or there are files of the user's or of another study.
        DataError: An image and its labels are on different grids, or a label is none of the set's.
        RunError: A file cannot be written.
    """
    if len({dataset.number for dataset in datasets}) < len(datasets):
        raise UsageError(f"two data sets of nnU-Net have the same number: {[one.number for one in datasets]}")
    for dataset in datasets:
        _clear(out, dataset, overwrite=overwrite)
    written: dict[tuple[str, str], _Pair] = {}
    done = 0
    for dataset in datasets:
        for pair in _pairs(out, dataset):
            case = pair[0].case
            progress(done, f"{dataset.folder} {case.name}")
            _write_case(pair, written.get((case.name, case.key)), labels, overwrite=overwrite)
            written.setdefault((case.name, case.key), pair)
            done += 1
        fold = {"train": [case.name for case in dataset.train], "val": [case.name for case in dataset.validation]}
        write_json(out / "nnUNet_preprocessed" / dataset.folder / "splits_final.json", [fold])
        write_json(_root(out, dataset) / "dataset.json", _dataset_json(dataset, labels))
        yield _root(out, dataset)
    progress(done)


def _root(out: Path, dataset: Dataset) -> Path:
    return out / "nnUNet_raw" / dataset.folder


def _pairs(out: Path, dataset: Dataset) -> Iterator[_Pair]:
    """The files of each case: its image and its labels."""
    for part, cases in (("Tr", (*dataset.train, *dataset.validation)), ("Ts", dataset.test)):
        for case in cases:
            name = plain_name(case.name, "a case for nnU-Net")
            image = _root(out, dataset) / f"images{part}" / f"{name}_0000.nii.gz"
            check_length(image, name)
            mask = _root(out, dataset) / f"labels{part}" / f"{name}.nii.gz"
            yield _File(image, case, is_image=True), _File(mask, case, is_image=False)


def _clear(out: Path, dataset: Dataset, *, overwrite: bool) -> None:
    """Refuses volumes that are not the data set's own; ``overwrite`` removes those of an earlier one."""
    root = _root(out, dataset)
    refuse_foreign(root / "dataset.json", _is_own, "a data set that ctsynth wrote")
    wanted = {file.path for pair in _pairs(out, dataset) for file in pair}
    for path in sorted(root.glob("[il]*s*/*.nii.gz")):
        if path in wanted or path.name.startswith("."):
            continue
        is_ours = look(path, KIND)[0] is Standing.WHOLE
        if not (is_ours and overwrite):
            hint = "add `overwrite`" if is_ours else "move it elsewhere"
            raise UsageError(f"{path}: not a case of this data set", hint=f"{hint}, or name another `out`")
        path.unlink()
        record_beside(path).unlink()


def _is_own(path: Path) -> bool:
    try:
        content = read_json(path)
    except DataError:
        return False
    return isinstance(content, dict) and content.get("reference") == REFERENCE


def _write_case(pair: _Pair, same: _Pair | None, labels: LabelSet, *, overwrite: bool) -> None:
    """Writes what is missing of a case, or links it to the same case of another data set."""
    missing = [place for place, file in enumerate(pair) if not _is_whole(file, overwrite=overwrite)]
    if same is not None:
        for place in missing:
            _link(same[place], pair[place])
    elif missing:
        name, (image, mask) = pair[0].case.name, pair[0].case.read()
        if not image.geometry.same_as(mask.geometry):
            raise DataError(f"{name}: image and labels are on different grids: {image.geometry}; {mask.geometry}")
        voxels = _hu(image.voxels), _consecutive(mask.voxels, labels, name)
        for place in missing:
            save(Volume(voxels[place], image.geometry), pair[place].path, DESCRIPTION, pair[place].record)


def _is_whole(file: _File, *, overwrite: bool) -> bool:
    standing, found = look(file.path, KIND)
    if standing is Standing.FOREIGN:
        raise UsageError(f"{file.path}: not overwritten: no record of ctsynth beside it", hint="move it elsewhere")
    if standing is Standing.FREE or overwrite:
        return False
    is_same = all(found[entry] == file.record[entry] for entry in KIND.entries)
    if standing is Standing.CHANGED or not is_same:
        problem = "changed since it was written" if is_same else "made from something else"
        raise UsageError(f"{file.path}: {problem}", hint="name another `out`, or write it again with `overwrite`")
    return standing is Standing.WHOLE


def _link(source: _File, target: _File) -> None:
    claim(target.path, target.record)
    with atomic(target.path) as partial:
        try:
            os.link(source.path, partial)
        except OSError:  # a file system without hard links
            shutil.copyfile(source.path, partial)
    write_json(record_beside(target.path), target.record | {DIGEST: read_json(record_beside(source.path))[DIGEST]})


def _hu(voxels: NDArray[Any]) -> NDArray[np.int16]:
    return np.asarray(np.rint(voxels) if voxels.dtype.kind == "f" else voxels, np.int16)


def _consecutive(voxels: NDArray[Any], labels: LabelSet, name: str) -> NDArray[np.uint8]:
    """Organs numbered from 1 on, all else background."""
    highest = labels.num_classes - 1
    found = np.unique(voxels)
    if voxels.dtype.kind not in "iu" or found[0] < 0 or found[-1] > highest:
        raise DataError(f"{name}: labels are {found[[0, -1]].tolist()}, wanted integers from 0 to {highest}")
    table = np.zeros(highest + 1, np.uint8)
    for number, organ in enumerate(labels.classes, start=1):
        table[organ.id] = number
    return table[voxels]


def _dataset_json(dataset: Dataset, labels: LabelSet) -> dict[str, Any]:
    organs = {organ.name: number for number, organ in enumerate(labels.classes, start=1)}
    return {
        "name": dataset.folder,
        "reference": REFERENCE,
        "description": "one arm of an augmentation study; synthetic cases show no patient",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **organs},
        "numTraining": len(dataset.train) + len(dataset.validation),
        "file_ending": ".nii.gz",
    }
