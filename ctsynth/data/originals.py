"""The volumes that a subject's slices were cut from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ctsynth.data.relabel import Given
from ctsynth.data.store import Store, Subject
from ctsynth.data.volume import Geometry
from ctsynth.errors import DataError


class Original(NamedTuple):
    """What a subject's slices were cut from.

    Args:
        geometry: Grid of the source CT.
        labels: Its label volume, on that grid.
        synthetic: The synthetic volume's file, on that grid or on that of the stacked slices.
        names: What the label volume's numbers mean by its dataset.json; None where they are the store's own.
    """

    geometry: Geometry
    labels: Path
    synthetic: Path
    names: Given | None = None


def originals(store: Store, files: Mapping[str, Path]) -> dict[str, Original]:
    """What the slices of each subject were cut from.

    Args:
        store: The slices.
        files: The synthetic volume of each subject.

    Raises:
        DataError: The store does not say where a label volume lies.
    """
    source = Path(store.source)
    subjects = {name: store.subjects_by_name[name] for name in files}
    if unknown := [name for name, subject in subjects.items() if "label" not in subject.record]:
        raise DataError(f"{store.root}: its manifest does not say where the label volume of {unknown[0]} lies")
    return {
        name: Original(subject.geometry, source / subject.record["label"], files[name], _names(store, subject))
        for name, subject in subjects.items()
    }


def _names(store: Store, subject: Subject) -> Given | None:
    """What the numbers of a subject's label volume meant to preprocess; None where they were the set's own."""
    names = subject.record.get("label_names")
    return Given({value: (name,) for name, value in names.items()}, str(store.root)) if names else None
