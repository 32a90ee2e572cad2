"""Finds the synthetic volume of each subject, and refuses one that was drawn for another."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ctsynth.data.find_volumes import volumes
from ctsynth.data.formats import composed, is_volume, record_beside, renamed, samples_beside, stem
from ctsynth.data.record import DIGEST
from ctsynth.data.store import Subject
from ctsynth.errors import DataError
from ctsynth.files import sha256
from ctsynth.sampling.record import read_record

log = logging.getLogger(__name__)


def match(
    synthetic: Path, subjects: Sequence[Subject], split: str, share: Sequence[Subject], *, partial: bool = False
) -> tuple[dict[str, Path], list[str]]:
    """Finds each subject's volume by its name.

    Args:
        synthetic: A folder, or the file of one subject, which is then the only one scored.
        subjects: The split's subjects.
        split: For messages.
        share: Those of them that are to be scored.
        partial: Missing volumes are no error, as long as there is one.

    Returns:
        The volumes by subject, and the subjects without one.

    Raises:
        DataError: Volumes are missing, or a subject has two.
    """
    single = synthetic.is_file()
    if not single and not synthetic.is_dir():
        raise DataError(f"{synthetic}: no such file or folder", hint="draw the volumes first: ctsynth sample")
    if not subjects:
        raise DataError(f"the store has no {split} subjects", hint="score another split: `split` train")
    found: dict[str, Path] = {}
    known, extra = {composed(subject.name): subject.name for subject in subjects}, []
    for path in [synthetic] if single else volumes(synthetic):
        name = next((known[name] for name in _names(path) if name in known), None)
        if name is None:
            if not _belongs_to_samples(path):
                extra.append(path.name)
        elif name in found:
            raise DataError(
                f"{synthetic}: {found[name].name} and {path.name} are both of {name}", hint="remove one"
            )
        else:
            found[name] = path
    if extra and found:
        log.warning("%s: no %s subject has the name of %s: not scored", synthetic, split, _listed(extra))
    missing = [] if single and found else [subject.name for subject in share if subject.name not in found]
    if missing and not (partial and found):
        raise DataError(
            f"{synthetic}: no volume of {_listed(missing)} ({len(missing)} of {len(share)} {split} subjects)",
            hint="wanted SUBJECT.nii.gz or SUBJECT_synthetic.nii.gz each; `partial` scores those that are there",
        )
    if missing:
        log.warning("%d of %d %s subjects are missing: not scored", len(missing), len(share), split)
    return {subject.name: found[subject.name] for subject in share if subject.name in found}, missing


def _belongs_to_samples(path: Path) -> bool:
    """Whether a volume is a further sample of a mask, or the mean or deviation of its samples."""
    name, _, kind = stem(path).rpartition("_")
    if kind in ("mean", "std"):
        return renamed(path, f"{name}_synthetic_0").exists()
    return path in samples_beside(path)[1:]


def base_name(path: Path) -> str:
    """A file's or folder's name without suffix and ``_synthetic``."""
    path = path.absolute()
    return (stem(path) if is_volume(path) else path.name).removesuffix("_synthetic")


def scores_beside(synthetic: Path) -> Path:
    """Where the scores of a folder of volumes, or of one, are written."""
    if synthetic.is_file():
        return synthetic.parent / f"{base_name(synthetic)}_scores.json"
    return synthetic / "scores.json"


def _names(path: Path) -> tuple[str, ...]:
    """The subjects that a file may be of: a subject may itself be called NAME_synthetic.

    Of several samples the first one is scored.
    """
    name = stem(path)
    return name, name.removesuffix("_synthetic"), name.removesuffix("_synthetic_0")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def refuse_strangers(subjects: Iterable[Subject], files: Mapping[str, Path]) -> None:
    """Refuses a volume that was drawn for another subject or from another mask than its name says, or was changed.

    The JSON beside a volume says so: its SHA-256, its subject, and the SHA-256 of its mask, which must be the one
    in the store or the label file that this was made from. A volume without such a file is taken by its name.

    Args:
        subjects: Those that are scored.
        files: The volume of each.

    Raises:
        DataError: A record names another subject, another mask or another content.
    """
    for subject in subjects:
        record = record_beside(files[subject.name])
        content = read_record(files[subject.name])
        drawn_for = str(content.get("subject", subject.name))
        mask, *_ = str(content.get("mask_sha256") or "").partition("+")  # what follows is the CT of --body-from
        own = [subject.record.get(key) for key in ("mask_sha256", "label_sha256")]
        if DIGEST in content and content[DIGEST] != sha256(files[subject.name]):
            found = "has other bytes: it is damaged, or was changed since it was drawn"
        elif composed(drawn_for) != composed(subject.name):
            found = f"was drawn for subject {drawn_for!r}, not {subject.name!r}"
        elif mask and mask not in own:
            found = (
                f"was drawn from a mask of SHA-256 {mask[:16]}..., and {subject.name}'s has {str(own[0])[:16]}..."
            )
        else:
            continue
        raise DataError(
            f"{files[subject.name]}: {record.name} says that it {found}",
            hint=f"draw it again, or remove {record.name} if the volume is {subject.name}'s after all",
        )
