"""Label volumes with a body: theirs, that of the CT, or an estimate; and a place for what has no class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.body import Mask, body_mask, outline_from_organs
from ctsynth.data.pairs import check_hu
from ctsynth.data.relabel import Given, Labels, read_labels
from ctsynth.data.settings import Unmatched
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError, shortened
from ctsynth.labels import BACKGROUND, LabelSet

log = logging.getLogger(__name__)

ORGAN_SIZED = 1e-3
"""Share of the patient's voxels; so many that the label set has no class for are a loss that is asked about."""

BODY_SHARE = 0.25
"""Share of the patient around the organs that a body label covers at least; less is a stray or another class."""

TISSUE_SHARE = 0.6
"""Share of the patient around the organs that tissues cover at least; less, as bones do, leaves a body to find."""


class Complete(NamedTuple):
    """Labels with a body.

    Args:
        voxels: (X, Y, Z) uint8 ids of the label set, body included.
        has_body: Whether the body is that of the label volume.
        stray: Voxels of a body label that covers too little of the patient to be one; they are not used.
    """

    voxels: NDArray[np.uint8]
    has_body: bool
    stray: int


def complete(
    labels: Labels, own: LabelSet, find_patient: Callable[[Mask], Mask], unmatched: Unmatched | None
) -> Complete:
    """Completes labels: adds the body, and places voxels whose class is unknown.

    The body label of the volume is taken where it covers ``BODY_SHARE`` of the patient around the organs, or its
    tissues ``TISSUE_SHARE``. What the set has no class for becomes what ``unmatched`` says; body if that is None
    and it is less than an organ.

    Args:
        labels: From ``read_labels``; its voxels are changed in place.
        own: Their set.
        find_patient: Where the patient is, organs included, given where these are; both (X, Y, Z) bool.
        unmatched: What voxels become whose class the set does not have.

    Raises:
        DataError: More than ``ORGAN_SIZED`` of the patient has no class, and ``unmatched`` is None.
    """
    voxels, body = labels.voxels, own.body_id
    labeled, is_tissue = voxels == body, voxels > body
    organs = (voxels != BACKGROUND) & (voxels < body)
    if labels.unknown is not None and unmatched != "background":
        organs |= labels.unknown
    patient = find_patient(organs) | is_tissue
    around = patient & ~organs
    found, wanted = int(np.count_nonzero(labeled)), int(np.count_nonzero(around))
    has_body = found > 0 and np.count_nonzero(labeled & around) >= BODY_SHARE * wanted
    has_body |= np.count_nonzero((labeled | is_tissue) & around) >= TISSUE_SHARE * max(1, wanted)
    if not has_body:
        voxels[labeled] = BACKGROUND
        voxels[around & ~is_tissue] = body
    if labels.unknown is not None:
        _check_loss(labels, own, int(np.count_nonzero((voxels != BACKGROUND) | labels.unknown)), unmatched)
        voxels[labels.unknown] = BACKGROUND if unmatched == "background" else body
    return Complete(voxels, bool(has_body), 0 if has_body else int(found))


def listed(voxels: Mapping[str, int]) -> str:
    """Classes with their voxels: "tumor (1,234 voxels), cyst (5 voxels)"."""
    return shortened(f"{name} ({n:,} voxel{'' if n == 1 else 's'})" for name, n in voxels.items())


def format_stray(own: LabelSet, voxels: Mapping[str, int], instead: str) -> str:
    """A line on body labels that are none, by file or subject."""
    covers = f"covers less than {100 * BODY_SHARE:.0f} % of the patient around the organs"
    return f"label {own.body_id}, body, {covers}, so {instead}: {listed(voxels)}"


def _check_loss(labels: Labels, own: LabelSet, patient: int, unmatched: Unmatched | None) -> None:
    share = sum(labels.lost.values()) / patient
    if unmatched is None and share >= ORGAN_SIZED:
        lost = f"{listed(labels.lost)}: {100 * share:.2f} % of the patient"
        raise DataError(
            f"{labels.file}: {own.name} has no class for {lost}",
            hint="`unmatched` body makes them body, `unmatched` background leaves them out",
        )


def complete_labels(
    file: Path,
    volume: Volume,
    own: LabelSet,
    *,
    labels: str | None = None,
    dataset: Given | None = None,
    body_from: Path | None = None,
    unmatched: Unmatched | None = None,
) -> tuple[NDArray[np.uint8], str, Volume | None]:
    """A label volume in the model's own label set, with a body, and where the body came from.

    Args:
        file: Where the volume is from.
        volume: Its voxels.
        own: The model's label set.
        labels: The set or file that names its numbers; see ``relabeling_of``.
        dataset: What a dataset.json says of them.
        body_from: A CT on its grid that the body is found in.
        unmatched: What voxels become whose class the model does not know; see ``complete``.

    Returns:
        (X, Y, Z) uint8; ``label``, ``ct`` or ``estimated``; and that CT, where there is one.

    Raises:
        DataError: As ``read_labels`` and ``complete``; a CT on another grid or not in HU; nothing but background.
    """
    given = read_labels(file, volume, own, labels=labels, dataset=dataset)
    if not (given.voxels.any() or (given.lost and unmatched != "background")):
        raise DataError(f"{file}: nothing but background (0), wanted labels of organs or body")
    ct = Volume.load(body_from) if body_from else None
    if body_from and ct:
        if not ct.geometry.same_as(volume.geometry):
            raise DataError(f"{body_from}: its grid is {ct.geometry}, that of {file} is {volume.geometry}")
        check_hu(body_from, ct.voxels)
    find_patient = (
        partial(body_mask, ct.voxels, ct.geometry.spacing)
        if ct
        else partial(outline_from_organs, spacing=volume.geometry.spacing)
    )
    done = complete(given, own, find_patient, unmatched)
    if given.lost:
        log.warning("%s: %s has no class for %s: now %s", file, own.name, listed(given.lost), unmatched or "body")
    if done.stray:
        instead = "the body is that of the CT" if ct else "the body is estimated"
        log.warning("%s", format_stray(own, {str(file): done.stray}, instead))
    if done.has_body:
        return done.voxels, "label", ct
    if ct is None and not done.stray:
        log.warning(
            "%s has no body label: its outline is estimated from the organs (`body_from` CT is better)", file
        )
    return done.voxels, "ct" if ct else "estimated", ct
