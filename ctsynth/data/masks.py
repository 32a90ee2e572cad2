"""Label volumes as people have them, brought to a model's own label set."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.body import body_mask, outline_from_organs
from ctsynth.data.volume import Volume, label_names
from ctsynth.errors import DataError
from ctsynth.labels import BODY, LabelClass, LabelSet, label_set

log = logging.getLogger(__name__)


def complete_labels(
    file: Path, volume: Volume, own: LabelSet, *, labels: str | None = None, body_from: Path | None = None
) -> tuple[NDArray[np.uint8], str]:
    """A label volume in the model's own label set, with a body, and where the body came from.

    The volume's set is the one named, else that of the names in its header, else the model's own. Classes without
    a partner by name, bones for instance, become body.

    Returns:
        (X, Y, Z) uint8 and ``label``, ``ct`` or ``estimated``.

    Raises:
        DataError: Values that are no whole numbers or not of the set; a CT on another grid; nothing but
            background.
    """
    found = np.unique(volume.voxels)
    if not (np.isfinite(found).all() and np.array_equal(found, np.round(found))) or found[0] < 0:
        raise DataError(f"{file}: not a label volume: it holds {found[0]:g} to {found[-1]:g}, not whole numbers")
    given = _set_of(file, own, labels)
    mapping = (
        own.mapping_from(given) if given.as_json() != own.as_json() else {n: n for n in range(own.num_classes)}
    )
    if unknown := [int(value) for value in found if int(value) not in mapping]:
        raise DataError(
            f"{file}: labels {unknown[:5]} are not of {given.name}"
            f" (0..{given.body_id - 1}, {given.body_id} = body)",
            hint="say which set it is: --labels totalsegmentator, or a .json file of yours",
        )
    if found[-1] == 0:
        raise DataError(f"{file}: nothing but background")
    table = np.zeros(int(found[-1]) + 1, np.uint8)
    for value in map(int, found):
        table[value] = mapping[value]
    known = np.empty(volume.voxels.shape, np.uint8)
    for z in range(volume.geometry.shape[2]):  # by slices: indices take eight times the memory of the labels
        known[..., z] = table[volume.voxels[..., z].astype(np.intp)]
    bodies = {given.body_id, *(organ.id for organ in given.classes if organ.name == BODY)}
    if bodies & set(map(int, found)):
        return known, "label"
    organs = known != 0
    if body_from:
        ct = Volume.load(body_from)
        if not ct.geometry.same_as(volume.geometry):
            raise DataError(f"{body_from}: its grid is {ct.geometry}, that of {file} is {volume.geometry}")
        body, origin = body_mask(ct.voxels, ct.geometry.spacing, organs), "ct"
    else:
        log.warning(
            "%s has no body label: its outline is estimated from the organs (--body-from CT is better)", file
        )
        body, origin = outline_from_organs(known, volume.geometry.spacing), "estimated"
    known[body & (known == 0)] = own.body_id
    return known, origin


def _set_of(file: Path, own: LabelSet, labels: str | None) -> LabelSet:
    if labels is not None:
        return own if labels == own.name else label_set(labels)
    names = label_names(file)
    if not names:
        return own
    classes = tuple(LabelClass(id=n, name=name, color="#000000") for n, name in sorted(names.items()) if n > 0)
    return LabelSet(f"the header of {file}", classes)
