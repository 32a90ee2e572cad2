"""Finds the cases of a data set on disk: AMOS22, nnU-Net raw, or a folder of images beside a folder of labels."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ctsynth.data.find_volumes import volumes
from ctsynth.data.formats import SUFFIXES, stem
from ctsynth.data.manifest import SPLITS
from ctsynth.data.settings import SplitRule
from ctsynth.data.source_case import SourceCase
from ctsynth.data.twins import refuse_copies
from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json

FIRST_MR_ID = 500
"""AMOS22's readme: ids below 500 are CT, the others MR."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found.

    Args:
        name: ``amos22``, ``nnunet`` or ``folders``.
        cases: CT cases, train before test, by name (ids by number).
        skipped_mr: AMOS22's MR cases, which are left out.
        left_out: CT cases in neither split.
        phantom: They are no CT of patients, as dataset.json says.
    """

    name: str
    cases: tuple[SourceCase, ...]
    skipped_mr: int = 0
    left_out: int = 0
    phantom: bool = False


def discover(
    source: Path, *, images: Path | None = None, labels: Path | None = None, rule: SplitRule | None = None
) -> Layout:
    """Finds the cases of a data set and deals them to train and test.

    AMOS22: imagesTr/labelsTr is train; the first CT cases of imagesVa/labelsVa by id are test. nnU-Net raw
    (``NAME_0000.nii.gz``) is train. With ``images`` and ``labels``, files of the same name belong together. Where
    there is no imagesVa, there are no test subjects unless the rule names some.

    Args:
        source: The data set's folder.
        images: Folder of images, absolute or in ``source``.
        labels: Folder of labels of the same names, absolute or in ``source``.
        rule: How to split; the paper's if None.

    Raises:
        DataError: There is no such folder, no case in it, or a subject or its image twice.
        UsageError: Only one of images and labels is given, or the split file does not fit.
    """
    rule = rule or SplitRule()
    if not source.is_dir():
        raise DataError(f"{source}: {'not a folder' if source.exists() else 'no such folder'}")
    if (images is None) != (labels is None):
        raise UsageError(
            "`images` and `labels` belong together", hint="give both, or none for AMOS22 or nnU-Net raw"
        )
    if images is not None and labels is not None:
        layout, files = "folders", {"train": _images(source / images, source / labels)}
    else:
        layout, files = "amos22", {}
        for split, end in _ENDS.items():
            if (source / f"images{end}").is_dir():
                files[split] = _images(source / f"images{end}", source / f"labels{end}")
    if not any(files.values()):
        raise DataError(
            f"{source}: no volumes found in {images or 'imagesTr and imagesVa'}",
            hint="wanted: AMOS22 (imagesTr, labelsTr, imagesVa, labelsVa), nnU-Net raw, or `images` and `labels`",
        )
    if any(image.name.startswith(f"{name}_0000.") for cases in files.values() for name, image, _ in cases):
        layout = "nnunet"
    found = _deal(layout, files, rule)
    folders = {source, *(case.image.parent.parent for case in found.cases)}
    return replace(found, phantom=any(map(_says_phantom, folders)))


def _says_phantom(folder: Path) -> bool:
    """Whether a folder's dataset.json says that it is of phantoms, as ``ctsynth phantom`` writes it."""
    with suppress(DataError):
        content = read_json(folder / "dataset.json")
        return isinstance(content, dict) and content.get("phantom") is True
    return False


_ENDS = {"train": "Tr", "test": "Va"}

_Files = tuple[str, Path, Path]


def _images(images: Path, labels: Path) -> list[_Files]:
    """(name, image, label) of each image in a folder, by name with the numbers in it by value."""
    if not images.is_dir():
        raise DataError(f"{images}: no such folder")
    found: dict[str, _Files] = {}
    named = {stem(path): path for path in volumes(labels)} if labels.is_dir() else {}
    for path in volumes(images):
        name, label = _named(path, named, labels)
        if name in found:
            raise DataError(
                f"{path}: subject {name} is there twice: {found[name][1].name}", hint="keep one of them"
            )
        found[name] = (name, path, label)
    return [found[name] for name in sorted(found, key=_by_number)]


def _named(image: Path, labels: Mapping[str, Path], folder: Path) -> tuple[str, Path]:
    """A subject's name and label: of the image's own name, or of what comes before nnU-Net's channel number.

    A label that is not there has the path where it was looked for.
    """
    own = stem(image)
    channel = re.fullmatch(r"(.+)_(\d{4})", own)
    name = channel[1] if channel and own not in labels and (channel[2] == "0000" or channel[1] in labels) else own
    if channel and name != own and channel[2] != "0000":
        raise DataError(
            f"{image}: channel {channel[2]} of {channel[1]}; a CT has one, 0000", hint="move it elsewhere"
        )
    return name, labels.get(name, folder / f"{name}{SUFFIXES[0]}")


def _by_number(name: str) -> tuple[list[tuple[int, str]], str]:
    """amos_0009 before amos_0010 before amos_100."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)], name


def _is_mr(name: str) -> bool:
    match = re.fullmatch(r"amos_(\d+)", name)
    return match is not None and int(match.group(1)) >= FIRST_MR_ID


def _deal(layout: str, files: dict[str, list[_Files]], rule: SplitRule) -> Layout:
    everyone = [entry for entries in files.values() for entry in entries]
    names = [name for name, _, _ in everyone]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        folders = " and ".join(str(image.parent) for name, image, _ in everyone if name == twice[0])
        raise DataError(
            f"{folders}: {_some(twice)} in both: a subject is either train or test",
            hint="remove it from one of them",
        )
    ct = {split: [entry for entry in entries if not _is_mr(entry[0])] for split, entries in files.items()}
    skipped = len(everyone) - sum(map(len, ct.values()))
    known = [name for entries in ct.values() for name, _, _ in entries]
    if rule.split is not None:
        chosen = _from_file(rule.split, known)
    elif rule.test_fraction is not None:
        drawn = random.Random(rule.seed).sample(sorted(known), round(rule.test_fraction * len(known)))
        chosen = {name: "test" if name in set(drawn) else "train" for name in known}
    else:
        chosen = {name: split for split, entries in ct.items() for name, _, _ in entries[: _limit(split, rule)]}
    cases = [SourceCase(name, chosen[name], image, label) for name, image, label in everyone if name in chosen]
    cases.sort(key=lambda case: (SPLITS.index(case.split), _by_number(case.name)))
    refuse_copies(cases)
    return Layout(layout, tuple(cases), skipped, len(known) - len(cases))


def _limit(split: str, rule: SplitRule) -> int | None:
    return rule.test_subjects if split == "test" else None


def _from_file(path: Path, known: list[str]) -> dict[str, str]:
    content = read_json(path)
    is_one = isinstance(content, dict) and content and not set(content) - set(SPLITS)
    if not is_one or not all(isinstance(names, list) for names in content.values()):
        raise DataError(
            f"{path}: not a split file", hint='wanted: {"train": ["amos_0001"], "test": ["amos_0008"]}'
        )
    chosen: dict[str, str] = {}
    for split, names in content.items():
        for name in names:
            if chosen.setdefault(str(name), split) != split:
                raise DataError(f"{path}: {name} is in both train and test", hint="remove it from one of them")
    if strangers := sorted(set(chosen) - set(known)):
        raise DataError(f"{path}: {_some(strangers)} not among the {len(known)} CT cases found")
    return chosen


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
