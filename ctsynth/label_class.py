"""A class of a label set, as an object and as JSON."""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from ctsynth.errors import DataError


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


class ClassJSON(TypedDict):
    """A class in a JSON file; ``colour`` and ``color`` are the same."""

    id: int
    name: str
    colour: NotRequired[str]
    color: NotRequired[str]
    column: NotRequired[str | None]
    dice: NotRequired[str | None]
    aliases: NotRequired[list[str]]


def class_from_json(entry: ClassJSON, source: str) -> LabelClass:
    """Builds a class; a missing color is chosen, a missing Dice partner is the class of the same name.

    Raises:
        DataError: There is an unknown key, or a color that is none.
    """
    known = ClassJSON.__annotations__
    if unknown := sorted(set(entry) - set(known)):
        raise DataError(f"{source}: unknown key {unknown[0]!r} in a class", hint=f"known: {', '.join(known)}")
    number, name = entry["id"], entry["name"]
    color = entry.get("colour") or entry.get("color") or chosen_color(number)
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise DataError(f"{source}: the color of {name} is {color!r}, wanted #rrggbb")
    return LabelClass(
        id=number,
        name=name,
        color=color,
        column=entry.get("column"),
        dice=entry.get("dice", name),
        aliases=tuple(entry.get("aliases", ())),
    )


def chosen_color(number: int) -> str:
    """A color for a class without one: hues a golden ratio apart, so that neighbors differ."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.65, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
