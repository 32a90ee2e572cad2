"""Label sets by name or from users' files, and what a dataset.json says of its label volumes."""

from __future__ import annotations

import functools
import logging
import re
from pathlib import Path

from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json
from ctsynth.label_class import LabelClass, chosen_color
from ctsynth.labels import (
    AMOS22,
    BACKGROUND,
    BODY,
    LabelSet,
    Names,
    key,
    refuse_equal_names,
)
from ctsynth.tissues import SUFFIX, TissueThresholds

log = logging.getLogger(__name__)

DATASET_JSON = "dataset.json"
"""Where nnU-Net, the Medical Segmentation Decathlon and AMOS22 name the labels of a data set."""


def label_set(name: str) -> LabelSet:
    """A label set by name (``amos22``, ``totalsegmentator``) or from a JSON file.

    ``+tissues`` at its end splits the set's body into gas, fat, soft and dense tissue.

    Raises:
        UsageError: There is neither a set nor a file of that name.
        DataError: The file holds no label set, two classes of one name, or a body that is not the last.
    """
    if name.endswith(SUFFIX):
        return label_set(name.removesuffix(SUFFIX)).with_tissues(TissueThresholds())
    if name == AMOS22.name:
        return AMOS22
    if name == "totalsegmentator":
        return _bundled(name)
    if name.endswith(".json"):
        content = read_json(Path(name))
        if _is_dataset_json(content):
            return dataset_label_set(Path(name))
        return _with_body_last(LabelSet.from_json(content, name), name)
    raise UsageError(
        f"no label set is called {name!r}",
        hint="there are: amos22, totalsegmentator, a .json file of yours, and each with +tissues",
    )


def named_label_set(name: str, source: Path, labels: Path | None = None) -> LabelSet:
    """A label set as ``label_set`` gives it, or ``dataset``: the classes that a data set's dataset.json names.

    Args:
        name: Name of the set.
        source: The data set's folder.
        labels: Its folder of label volumes, if that is not labelsTr.

    Raises:
        DataError: There is no dataset.json that names labels.
    """
    if name != "dataset":
        return label_set(name)
    path = find_dataset_json(source / (labels or "labelsTr"), source)
    if path is None:
        raise DataError(
            f"{source}: no dataset.json that names labels", hint="write a label set of your own, as a .json file"
        )
    return dataset_label_set(path)


def label_names(name: str) -> Names:
    """What the values of label volumes mean that are of the set or file of that name, a dataset.json among them.

    Raises:
        UsageError: There is neither a set nor a file of that name.
        DataError: The file cannot be used.
    """
    if name.endswith(".json") and _is_dataset_json(read_json(Path(name))):
        return dataset_names(Path(name))
    return label_set(name).spellings


def find_dataset_json(labels: Path, source: Path | None = None) -> Path | None:
    """The dataset.json that says what the label volumes of a folder mean; None where there is none.

    It lies in the folder, as beside nnU-Net's predictions, or above a folder ``labels...``; or in ``source``, a
    data set that the folder is a part of.
    """
    labels = labels.absolute()
    folders = [labels]
    if labels.name.startswith("labels"):
        folders.append(labels.parent)
    if source is not None and labels.is_relative_to(source.absolute()):
        folders.append(source.absolute())
    found = next((path for folder in folders if (path := folder / DATASET_JSON).is_file()), None)
    if found is not None and not _is_dataset_json(read_json(found)):
        log.warning("%s names no labels: they are taken by their numbers", found)
        return None
    return found


def dataset_names(path: Path) -> dict[int, tuple[str]]:
    """What the label values of a data set mean by its dataset.json, background left out.

    Both forms are read: nnU-Net's ``{"background": 0, "liver": 1}``, and the older ``{"0": "background"}``.

    Raises:
        DataError: There are regions, one number twice, a 0 that is not background, or no labels at all.
    """
    content = read_json(path)
    if not _is_dataset_json(content):
        raise DataError(f"{path}: it names no labels", hint='wanted: "labels": {"background": 0, "liver": 1}')
    names: dict[int, tuple[str]] = {}
    for left, right in content["labels"].items():
        if isinstance(right, list):
            raise DataError(
                f"{path}: {left!r} is a region, of the labels {right}: a voxel can be of one class only",
                hint="write the classes that the label volumes hold, each with its own number",
            )
        if isinstance(right, str) and _is_number(left):
            value, name = int(left), right
        elif not isinstance(right, bool) and _is_number(str(right)):
            value, name = int(right), left
        else:
            raise DataError(f'{path}: {left!r}: {right!r} is neither "name": number nor "number": "name"')
        if value in names:
            raise DataError(f"{path}: {names[value][0]!r} and {name!r} are both {value}")
        names[value] = (name,)
    zero = names.pop(BACKGROUND, ("background",))[0]
    if key(zero) != "background":
        raise DataError(f"{path}: 0 is {zero!r}, wanted background", hint="number the classes from 1")
    return names


def dataset_label_set(path: Path) -> LabelSet:
    """A label set of the classes that a dataset.json names, with their numbers; body comes last.

    Colors are chosen; a class that TotalSegmentator has, too, has it as its Dice partner.

    Raises:
        DataError: The names cannot be used: see ``dataset_names``; or two of them are the same.
    """
    names = dataset_names(path)
    refuse_equal_names(names, str(path))
    partners = {key(organ.name): organ.name for organ in _bundled("totalsegmentator").classes}
    classes = tuple(
        LabelClass(id=value, name=name, color=chosen_color(value), dice=partners.get(key(name)))
        for value, (name,) in sorted(names.items())
        if key(name) not in (BODY, "background")
    )
    title = read_json(path).get("name")
    return LabelSet(title if isinstance(title, str) and title else path.absolute().parent.name, classes)


@functools.cache
def _bundled(name: str) -> LabelSet:
    path = Path(__file__).parent / "label_sets" / f"{name}.json"
    return LabelSet.from_json(read_json(path), name)


def _is_dataset_json(content: object) -> bool:
    return isinstance(content, dict) and isinstance(content.get("labels"), dict) and "classes" not in content


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None


def _with_body_last(labels: LabelSet, source: str) -> LabelSet:
    """A set whose file may list the body, which a set has by itself."""
    organs = LabelSet(labels.name, tuple(organ for organ in labels.classes if key(organ.name) != BODY))
    for organ in labels.classes:
        if organ not in organs.classes and organ.id != organs.body_id:
            raise DataError(
                f"{source}: body is {organ.id}, wanted {organs.body_id}, one above the last class",
                hint="leave it out, and number it so in the label volumes: a set has it by itself",
            )
    refuse_equal_names(organs.spellings, source)
    return organs
