"""Label volumes as people have them, brought to the ids of a label set by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.volume import PLAUSIBLE_AIR, Volume
from ctsynth.errors import DataError, shortened
from ctsynth.label_files import dataset_names, find_dataset_json, label_names
from ctsynth.labels import BACKGROUND, LabelSet, Names, Relabeling

_LIMIT = 1 << 16  # of label values
_MOST_CLASSES = 512  # in one volume


@dataclass(frozen=True, eq=False, slots=True)
class Labels:
    """A label volume in the ids of a label set, before the body is looked for.

    Args:
        file: Where it is from.
        voxels: (X, Y, Z) uint8; background where the set does not have the class.
        unknown: (X, Y, Z) bool, where that is; None if nowhere.
        lost: The voxels of each class that the set does not have, by name.
    """

    file: str
    voxels: NDArray[np.uint8]
    unknown: NDArray[np.bool_] | None
    lost: Mapping[str, int]


class Given(NamedTuple):
    """What label values mean, and who says so."""

    names: Names
    source: str

    def as_json(self) -> dict[str, int]:
        """The values by name, as nnU-Net's dataset.json has them."""
        return {names[0]: value for value, names in self.names.items()}


def read_labels(
    file: Path, volume: Volume, own: LabelSet, *, labels: str | None = None, dataset: Given | None = None
) -> Labels:
    """Maps a label volume to a label set; arguments as of ``relabeling_of``.

    Raises:
        DataError: Values that are no whole numbers, or that nobody named; no name in common with the set.
    """
    return relabeled(str(file), volume.voxels, *relabeling_of(file, volume, own, labels=labels, dataset=dataset))


def relabeling_of(
    file: Path, volume: Volume, own: LabelSet, *, labels: str | None = None, dataset: Given | None = None
) -> tuple[Relabeling, str]:
    """What becomes of the numbers of a label volume, and who says what they mean.

    It is ``labels``; else the names in the file's header; else ``dataset``; else the numbers are the set's own.

    Args:
        file: Where the volume is from.
        volume: Its voxels, of any dtype.
        own: The set that it is brought to.
        labels: The set or file that names its numbers.
        dataset: What a dataset.json says; see ``given_by_dataset``.

    Raises:
        DataError: No name in common with the set, or an ambiguous one.
    """
    if labels is not None:
        return (own.identity if labels == own.name else own.relabel(label_names(labels), labels)), labels
    names = {value: (name,) for value, name in (volume.names or {}).items() if value != BACKGROUND}
    if names:
        return own.relabel(names, f"the header of {file}"), "its header"
    if dataset:
        return own.relabel(dataset.names, dataset.source), dataset.source
    return own.identity, own.name


def given_by_dataset(labels: Path, source: Path | None = None) -> Given | None:
    """What a dataset.json says of the label volumes of a folder; see ``find_dataset_json``.

    Raises:
        DataError: There is one that cannot be used.
    """
    path = find_dataset_json(labels, source)
    return Given(dataset_names(path), str(path)) if path else None


def given_by_datasets(
    folders: Iterable[Path], source: Path, own: LabelSet, *, known_only: bool
) -> dict[Path, Given]:
    """What a dataset.json says of each of these folders of label volumes, where there is one.

    Args:
        folders: Folders of label volumes.
        source: The data set that they are a part of.
        own: The label set that they are brought to.
        known_only: All names must be the label set's.

    Raises:
        DataError: They are not, or not one of them is; or a dataset.json cannot be used.
    """
    found = {}
    for folder in sorted(folders):
        given = given_by_dataset(folder, source)
        if given is None:
            continue
        if known_only and (lacking := own.lacks(given.names)):
            there = (f"{value} {name}" for value, (name, *_) in sorted(given.names.items()))
            raise DataError(
                f"{given.source}: {own.name} has no class for {shortened(lacking)}"
                f"\n  labels there: {shortened(there, 30)}"
                f"\n  {own.name}: {shortened(own.names.values(), 30)}",
                hint="`label_set` dataset takes the classes of the file; `unmatched` body makes the others body,"
                " `unmatched` background leaves them out",
            )
        own.relabel(given.names, given.source)
        found[folder] = given
    return found


def relabeled(file: str, voxels: NDArray[Any], relabeling: Relabeling, by: str) -> Labels:
    """Label values as ids of a label set.

    Args:
        file: Where they are from, for messages.
        voxels: (X, Y, Z), of any dtype.
        relabeling: Which value becomes which id.
        by: Who says so, for messages.

    Raises:
        DataError: Values that are no whole numbers, or not among those that were named.
    """
    counts = check_labels(file, voxels)
    known = sorted({*relabeling.ids, *relabeling.unmatched})
    if nameless := [str(value) for value in counts if value not in known]:
        raise DataError(
            f"{file}: holds {shortened(nameless, 5)}; {by} has {_ranges(known)}",
            hint="give the meaning of its numbers: `labels` totalsegmentator, or a .json file of yours"
            " (of preprocess: `label_set`)",
        )
    ids = np.zeros(max(counts) + 1, np.uint8)
    is_unknown = np.zeros(len(ids), np.bool_)
    for value in counts:
        ids[value] = relabeling.ids.get(value, BACKGROUND)
        is_unknown[value] = value in relabeling.unmatched
    unknown = _looked_up(voxels, is_unknown) if is_unknown.any() else None
    return Labels(file, _looked_up(voxels, ids), unknown, relabeling.lost(counts))


def check_labels(file: str, voxels: NDArray[Any]) -> dict[int, int]:
    """The voxels of each value, by rising value.

    Raises:
        DataError: They are no labels: no whole numbers from 0, or too many different ones.
    """
    counts = np.zeros(_LIMIT, np.int64)
    for z in range(voxels.shape[2]):
        plane = voxels[:, :, z]
        numbers = np.where((plane >= 0) & (plane < _LIMIT), plane, 0).astype(np.uint16)
        if (numbers != plane).any():
            strange = [f"{value:g}" for value in np.unique(plane[numbers != plane])]
            raise _is_image(file, voxels, shortened(strange, 5))
        counts += np.bincount(numbers.ravel(order="K"), minlength=_LIMIT)
    found = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    if len(found) > _MOST_CLASSES:
        raise _is_image(file, voxels, f"{len(found):,} values")
    return found


def _is_image(file: str, voxels: NDArray[Any], found: str) -> DataError:
    finite = voxels[np.isfinite(voxels)]
    low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
    if low < PLAUSIBLE_AIR:
        return DataError(
            f"{file}: not a label volume: it looks like a CT, its values go from {low:g} to {high:g}",
            hint="name the volume that holds the organ of each voxel, in whole numbers from 0",
        )
    return DataError(
        f"{file}: not a label volume: holds {found}; its values go from {low:g} to {high:g}, wanted whole numbers"
        " from 0",
        hint="is it a CT? name the volume that holds the organ of each voxel",
    )


def _looked_up(voxels: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    found = np.empty(voxels.shape, table.dtype, order="F")
    for z in range(voxels.shape[2]):  # by slices: indices take eight times the memory of the labels
        found[:, :, z] = table[voxels[:, :, z].astype(np.intp)]
    return found


def _ranges(numbers: list[int]) -> str:
    """Rising numbers as "0 to 15, 20"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return shortened(" to ".join(map(str, run)) for run in runs)
