"""Label sets: every class once, with its id, names, color and Dice partner.

Only this module knows AMOS22 by heart. A store, a checkpoint and a scores.json carry the label set that they were
made with, so any other set goes the same way through the program.
"""

from __future__ import annotations

import colorsys
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json

BACKGROUND = 0
"""The id of what belongs to no class: air, table, blanket."""

BODY = "body"
"""The name of the last class of every set: the patient where no other class is."""

BODY_COLOR = "#f5f5dc"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelClass:
    """One class of a label set; color, column and aliases do not make it another class.

    Args:
        id: Its value in a label volume, at least 1.
        name: Its name, as TotalSegmentator spells it where TotalSegmentator has it.
        color: ``#rrggbb``, for pictures.
        column: Its heading in the paper's tables; None where the paper has no such column.
        dice: The TotalSegmentator class that it is compared with; None where there is none.
        aliases: Other spellings, as in AMOS22's own dataset.json.
    """

    id: int
    name: str
    color: str = field(compare=False)
    column: str | None = field(default=None, compare=False)
    dice: str | None = None
    aliases: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The classes that label volumes of one origin hold; the body comes after the last of them.

    Args:
        name: ``amos22``, ``totalsegmentator`` or the name in the user's JSON file.
        classes: The set's own classes by rising id, without background and body.
    """

    name: str
    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        ids = [organ.id for organ in self.classes]
        if not ids or ids != sorted(set(ids)) or ids[0] < 1 or ids[-1] > 254:
            raise DataError(f"label set {self.name!r}: ids must be different, rising and within 1..254, not {ids}")

    @property
    def body_id(self) -> int:
        """The body's id, one above the set's own last: 16 in AMOS22."""
        return self.classes[-1].id + 1

    @property
    def num_classes(self) -> int:
        """Channels of a one-hot label map, background and body included: 17 in AMOS22."""
        return self.body_id + 1

    @property
    def colors(self) -> dict[int, str]:
        """The color of each id, body included, background not."""
        return {organ.id: organ.color for organ in self.classes} | {self.body_id: BODY_COLOR}

    @property
    def names(self) -> dict[int, str]:
        """The name of each id, body included, background not."""
        return {organ.id: organ.name for organ in self.classes} | {self.body_id: BODY}

    def mapping_from(self, other: LabelSet) -> dict[int, int]:
        """Which id of ``other`` becomes which id of this set, by name; what has no partner here is body.

        Raises:
            DataError: No class of ``other`` has a name of this set.
        """
        own = {
            name: organ.id for organ in self.classes for name in (organ.name, organ.dice, *organ.aliases) if name
        }
        found = {organ.id: own.get(organ.name, self.body_id) for organ in other.classes}
        if set(found.values()) == {self.body_id}:
            raise DataError(f"label set {other.name!r} has no class by a name of {self.name!r}")
        return found | {BACKGROUND: BACKGROUND, other.body_id: self.body_id}

    def as_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back."""
        classes = [
            {"id": organ.id, "name": organ.name, "colour": organ.color}
            | ({"column": organ.column} if organ.column else {})
            | ({"dice": organ.dice} if organ.dice else {})
            | ({"aliases": list(organ.aliases)} if organ.aliases else {})
            for organ in self.classes
        ]
        return {"name": self.name, "classes": classes}

    @classmethod
    def from_json(cls, content: Any, source: str = "label set") -> LabelSet:  # noqa: ANN401  parsed JSON
        """Builds a set from ``{"name": ..., "classes": [{"id", "name", "colour", "dice"}, ...]}``.

        Only id and name are needed; a missing color is chosen, a missing Dice partner is the class of the same
        name.

        Raises:
            DataError: The content is of another form.
        """
        known = {"id", "name", "colour", "color", "column", "dice", "aliases"}
        try:
            classes = []
            for entry in content["classes"]:
                if unknown := sorted(set(entry) - known):
                    raise DataError(
                        f"{source}: unknown key {unknown[0]!r} in a class", hint=f"known: {sorted(known)}"
                    )
                number, name = int(entry["id"]), str(entry["name"])
                color = str(entry.get("colour") or entry.get("color") or _color(number))
                if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
                    raise DataError(f"{source}: the colour of {name} is {color!r}, not #rrggbb")
                partner = entry.get("dice", name)
                aliases = tuple(map(str, entry.get("aliases", ())))
                classes.append(
                    LabelClass(
                        id=number,
                        name=name,
                        color=color,
                        column=entry.get("column"),
                        dice=partner,
                        aliases=aliases,
                    )
                )
            return cls(str(content["name"]), tuple(sorted(classes, key=lambda organ: organ.id)))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{source}: not a label set: {error!r}",
                hint='wanted: {"name": ..., "classes": [{"id": 1, "name": "spleen"}, ...]}',
            ) from error


def _color(number: int) -> str:
    """A color for a class without one: hues a golden ratio apart, so that neighbors differ."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.65, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _amos(
    number: int, name: str, column: str | None, color: str, *aliases: str, dice: str | None = None
) -> LabelClass:
    return LabelClass(id=number, name=name, column=column, color=color, aliases=aliases, dice=dice or name)


AMOS22 = LabelSet(
    "amos22",
    (  # ids and aliases: AMOS22's dataset.json; colors: the paper's Figures 3 and 4; left is the patient's left
        _amos(1, "spleen", "Spleen", "#15b01a"),
        _amos(2, "kidney_right", "R. Kidney", "#0343df", "right kidney"),
        _amos(3, "kidney_left", "L. Kidney", "#ffff00", "left kidney"),
        _amos(4, "gallbladder", "Gallbladder", "#f97306", "gall bladder"),
        _amos(5, "esophagus", "Esophagus", "#ff69b4"),
        _amos(6, "liver", "Liver", "#8b0000"),
        _amos(7, "stomach", "Stomach", "#4b0082"),
        _amos(8, "aorta", "Aorta", "#cd853f", "arota"),
        _amos(9, "inferior_vena_cava", "Postcava", "#40e0d0", "postcava"),
        _amos(10, "pancreas", "Pancreas", "#808080"),
        _amos(11, "adrenal_gland_right", "R. Adrenal", "#006400", "right adrenal gland"),
        _amos(12, "adrenal_gland_left", "L. Adrenal", "#90ee90", "left adrenal gland"),
        _amos(13, "duodenum", "Duodenum", "#bf77f6"),
        _amos(14, "urinary_bladder", "Bladder", "#d2b48c", "bladder"),
        _amos(15, "prostate", None, "#800080", "prostate/uterus"),
    ),
)


@functools.cache
def _bundled(name: str) -> LabelSet:
    path = Path(__file__).parent / "label_sets" / f"{name}.json"
    return LabelSet.from_json(read_json(path), name)


def label_set(name: str) -> LabelSet:
    """A label set by name (``amos22``, ``totalsegmentator``) or from a JSON file.

    Raises:
        UsageError: There is neither a set nor a file of that name.
        DataError: The file holds no label set.
    """
    if name == AMOS22.name:
        return AMOS22
    if name == "totalsegmentator":
        return _bundled(name)
    if name.endswith(".json"):
        return LabelSet.from_json(read_json(Path(name)), name)
    raise UsageError(
        f"no label set is called {name!r}", hint="there are: amos22, totalsegmentator, or a .json file of yours"
    )
