"""The slice store: what ``ctsynth preprocess`` writes and everything after it reads.

    ROOT/manifest.json                    settings and every subject's record, written last
    ROOT/<split>/<subject>/ct.npy         int16 HU within the window, (Z, size, size)
    ROOT/<split>/<subject>/mask.npy       uint8 labels, body included, (Z, size, size)
    ROOT/<split>/<subject>/subject.json   the subject's record and the settings that it was made with

A subject's folder appears whole or not at all, and the manifest is only a merge of the folders there, so that
workers and shards need no agreement.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ctsynth.data.arrays import open_array, save_array
from ctsynth.data.folders import ARRAYS, refuse_strangers
from ctsynth.data.manifest import SCHEMA, SPLITS, SubjectRecord, read_manifest, read_subject
from ctsynth.data.twins import refuse_twins
from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.errors import DataError, UsageError
from ctsynth.files import atomic, remove_leftovers, sha256, write_json
from ctsynth.labels import LabelSet
from ctsynth.outputs import plain_name


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject's slices.

    Args:
        folder: Where its arrays lie.
        name: Its name, one of a kind in the store.
        split: ``train`` or ``test``.
        size: Side of its slices, pixels.
        highest: The highest id of the label set.
        geometry: Grid of the volume that it came from; Z is the number of slices.
        voxels: Voxel count of each id in the stored mask; ids without any are left out.
        record: All that the manifest says of it: source files, their SHA-256, those of the arrays.
    """

    folder: Path
    name: str
    split: str
    size: int
    highest: int
    geometry: Geometry
    voxels: dict[int, int]
    record: dict[str, Any] = field(repr=False)

    @property
    def slices(self) -> int:
        """How many slices it has."""
        return self.geometry.shape[2]

    def ct(self) -> NDArray[np.int16]:
        """(Z, size, size) int16, HU within the window; a read-only memory map, a new one each time.

        Raises:
            DataError: The file is gone, damaged or another one; ``mask`` likewise.
        """
        return self._map("ct", np.int16)

    def mask(self) -> NDArray[np.uint8]:
        """(Z, size, size) uint8, labels with body; a read-only memory map, a new one each time."""
        return self._map("mask", np.uint8, self.highest)

    def _map(self, name: str, dtype: DTypeLike, highest: int | None = None) -> NDArray[Any]:
        shape = (self.slices, self.size, self.size)
        return open_array(self.folder / f"{name}.npy", dtype, shape, self.record[f"{name}_sha256"], highest)


@dataclass(frozen=True, eq=False)
class Store:
    """An open slice store.

    Args:
        root: Its folder.
        size: Side of the slices, pixels.
        window: What the CT was clipped to.
        labels: The classes of the masks.
        settings: All that it was made with.
        subjects_by_name: Every subject.
        source: The folder that relative paths in the subjects' records start from.
        phantom: Its subjects are no patients, so that scores against it compare to nothing published.
    """

    root: Path
    size: int
    window: Window
    labels: LabelSet
    settings: dict[str, Any] = field(repr=False)
    subjects_by_name: dict[str, Subject] = field(repr=False)
    source: str = ""
    phantom: bool = False

    @classmethod
    def open(cls, path: Path) -> Store:
        """Opens the store in a folder.

        Raises:
            DataError: There is no manifest, or one of another schema, or two subjects have the same image.
        """
        manifest = path / "manifest.json"
        if not manifest.is_file():
            raise DataError(
                f"{path}: no slice store here (there is no manifest.json)",
                hint=f"make one first: ctsynth preprocess amos/ {path}",
            )
        content = read_manifest(path)
        settings = content["settings"]
        labels = LabelSet.from_json(settings["labels"], str(manifest))
        try:
            window = Window(settings["level"], settings["width"])
        except UsageError as error:
            raise DataError(f"{manifest}: {error.message}") from None
        refuse_twins(content["subjects"], manifest)
        subjects = {}
        for number, record in enumerate(content["subjects"]):
            subject = subject_of(
                path, settings["size"], labels.num_classes - 1, record, f"{manifest}: subjects[{number}]"
            )
            if subject.name in subjects:
                raise DataError(f"{manifest}: subject {subject.name!r} is there twice")
            subjects[subject.name] = subject
        return cls(
            path,
            settings["size"],
            window,
            labels,
            dict(settings),
            subjects,
            source=content.get("source", ""),
            phantom=content.get("phantom", False),
        )

    def subjects(self, split: str) -> list[Subject]:
        """The subjects of a split, by name.

        Raises:
            UsageError: There is no such split.
        """
        if split not in SPLITS:
            raise UsageError(f"{self.root}: no split is called {split!r}", hint=f"there are: {', '.join(SPLITS)}")
        found = (self.subjects_by_name[name] for name in sorted(self.subjects_by_name))
        return [subject for subject in found if subject.split == split]

    @property
    def digest(self) -> str:
        """SHA-256 of what it holds: settings, and each subject's split, geometry and hashes of its arrays.

        Where it lies, and where it came from, does not matter.
        """
        known = ("name", "split", "ct_sha256", "mask_sha256", "geometry")
        subjects = [
            {key: self.subjects_by_name[name].record[key] for key in known}
            for name in sorted(self.subjects_by_name)
        ]
        content = json.dumps({"settings": self.settings, "subjects": subjects}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def subject_of(root: Path, size: int, highest: int, record: SubjectRecord, where: str) -> Subject:
    """The subject that a record in a manifest or a subject.json describes; its arrays are not opened.

    Args:
        root: The store's folder.
        size: Side of its slices, pixels.
        highest: The highest id of the label set.
        record: What is said of it.
        where: Stands before messages.

    Raises:
        DataError: The record is impossible.
    """
    name = plain_name(record["name"], where)
    geometry = Geometry.from_json(record["geometry"], f"{where}.geometry")
    if record["slices"] != geometry.shape[2]:
        raise DataError(f"{where}.slices is {record['slices']}, and its geometry has {geometry.shape[2]}")
    for number in record["voxels"]:
        if not re.fullmatch(r"\d{1,3}", number, re.ASCII) or int(number) > highest:
            raise DataError(f"{where}.voxels has the key {number!r}, wanted a label from 0 to {highest}")
    return Subject(
        folder=root / record["split"] / name,
        name=name,
        split=record["split"],
        size=size,
        highest=highest,
        geometry=geometry,
        voxels={int(number): count for number, count in record["voxels"].items()},
        record=dict(record),
    )


def write_subject(
    root: Path,
    record: dict[str, Any],
    settings: dict[str, Any],
    ct: NDArray[np.int16],
    mask: NDArray[np.uint8],
) -> dict[str, Any]:
    """Writes a subject's folder, whole or not at all, in place of an older one of ours.

    Args:
        root: The store's folder.
        record: ``name``, ``split``, ``geometry`` (as JSON) and whatever else the manifest shall say.
        settings: ``size``, ``level``, ``width``, ``labels`` (as JSON) and whatever else made the subject.
        ct: (Z, size, size) int16, HU within the window.
        mask: (Z, size, size) uint8, labels with body.

    Returns:
        The record as it was written, with slices, voxels of each label and the SHA-256 of the arrays.

    Raises:
        DataError: There is a folder that ``ctsynth preprocess`` did not make.
        RunError: The folder cannot be written.
    """
    folder = root / record["split"] / record["name"]
    refuse_strangers(root, record["split"], record["name"])
    remove_leftovers(folder)
    counts = np.bincount(mask.ravel(), minlength=1)
    voxels = {str(number): int(counts[number]) for number in np.flatnonzero(counts)}
    with atomic(folder) as partial:
        partial.mkdir()
        save_array(partial / "ct.npy", np.ascontiguousarray(ct, np.int16))
        save_array(partial / "mask.npy", np.ascontiguousarray(mask, np.uint8))
        hashes = {f"{name}_sha256": sha256(partial / f"{name}.npy") for name in ARRAYS}
        record = record | {"slices": len(ct), "voxels": voxels} | hashes
        content = json.dumps(
            {"schema": SCHEMA, "settings": settings, "subject": record}, indent=2, allow_nan=False
        )
        (partial / "subject.json").write_text(content + "\n", encoding="utf-8")
    return record


def write_manifest(
    root: Path,
    settings: dict[str, Any],
    subjects: Collection[tuple[str, str]],
    source: str = "",
    *,
    phantom: bool = False,
) -> list[dict[str, Any]]:
    """Writes manifest.json: a merge of those of the subjects that are whole and were made with these settings.

    Two shards may write it at the same time: each looks again after writing, so that the last one has seen all.

    Args:
        root: The store's folder.
        settings: Settings of the store; subjects made with others are left out.
        subjects: (split, name) of all that belong to the store, whichever shard makes them.
        source: The folder that relative source paths in the records start from.
        phantom: They are no CT of patients.

    Returns:
        The records that the manifest holds, train before test, by name.

    Raises:
        RunError: The manifest cannot be written.
    """
    order = sorted(subjects, key=lambda subject: (SPLITS.index(subject[0]), subject[1]))
    written = None
    while (records := _whole(root, settings, order)) != written:
        content = {
            "schema": SCHEMA, "source": source, "phantom": phantom, "settings": settings, "subjects": records
        }  # fmt: skip
        write_json(root / "manifest.json", content)
        written = records
    return records


def _whole(root: Path, settings: dict[str, Any], subjects: list[tuple[str, str]]) -> list[dict[str, Any]]:
    found = [read_subject(root, split, name) for split, name in subjects]
    return [entry[1] for entry in found if entry and entry[0] == settings]
