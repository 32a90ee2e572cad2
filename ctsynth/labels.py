"""Label sets: every class once, with its id, names, color and Dice partner.

Only this module knows AMOS22 by heart. A store, a checkpoint and a scores.json carry the label set that they were
made with, so any other set goes the same way through the program.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NotRequired, TypedDict

from ctsynth.errors import DataError, shortened
from ctsynth.label_class import ClassJSON, LabelClass, class_from_json
from ctsynth.schema import parse
from ctsynth.tissues import SUFFIX, TISSUES, TissueThresholds

BACKGROUND = 0
"""The id of what belongs to no class: air, table, blanket."""

BODY = "body"
"""The name of the last class of every set: the patient where no other class is."""

BODY_COLOR = "#f5f5dc"

Names = Mapping[int, Sequence[str]]
"""What label values mean: all names that a value goes by, first the one to show."""


class _SetJSON(TypedDict):
    name: str
    classes: list[ClassJSON]
    tissues: NotRequired[TissueThresholds]


@dataclass(frozen=True, slots=True)
class Relabeling:
    """Which label values become which ids of a label set.

    Args:
        ids: By value, background included.
        unmatched: The values whose names the set does not have, with that name.
    """

    ids: dict[int, int]
    unmatched: dict[int, str]

    def lost(self, voxels: Mapping[int, int]) -> dict[str, int]:
        """The voxels of each class that the set does not have, by name, the most first.

        Args:
            voxels: Voxel count of each label value.
        """
        found = {name: voxels[value] for value, name in self.unmatched.items() if voxels.get(value)}
        return dict(sorted(found.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The classes that label volumes of one origin hold; the body comes after the last of them.

    Args:
        name: ``amos22``, ``totalsegmentator`` or the name in the user's JSON file.
        classes: The set's own classes by rising id, without background and body.
        tissues: The Hounsfield units that split the body into gas, fat, soft and dense tissue; None where it is
            one class. The four come after the body, which stays a class: the patient where no tissue is known.
    """

    name: str
    classes: tuple[LabelClass, ...]
    tissues: TissueThresholds | None = None

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
        """Channels of a one-hot label map, background, body and tissues included: 17 in AMOS22."""
        return self.body_id + 1 + len(self.tissue_classes)

    @property
    def tissue_classes(self) -> tuple[LabelClass, ...]:
        """Gas, fat, soft tissue and dense tissue, with the ids after the body's; none in a set without tissues."""
        if self.tissues is None:
            return ()
        return tuple(
            LabelClass(id=self.body_id + place, name=tissue.name, color=tissue.color, aliases=tissue.aliases)
            for place, tissue in enumerate(TISSUES, start=1)
        )

    @property
    def without_tissues(self) -> LabelSet:
        """The same set with the body as one class."""
        return LabelSet(self.name.removesuffix(SUFFIX), self.classes) if self.tissues else self

    def with_tissues(self, thresholds: TissueThresholds) -> LabelSet:
        """The same set with the body split into tissues."""
        plain = self.without_tissues
        return LabelSet(plain.name + SUFFIX, plain.classes, thresholds)

    @property
    def colors(self) -> dict[int, str]:
        """The color of each id, body and tissues included, background not."""
        organs = {organ.id: organ.color for organ in (*self.classes, *self.tissue_classes)}
        return organs | {self.body_id: BODY_COLOR}

    @property
    def names(self) -> dict[int, str]:
        """The name of each id, body and tissues included, background not."""
        organs = {organ.id: organ.name for organ in self.classes} | {self.body_id: BODY}
        return organs | {tissue.id: tissue.name for tissue in self.tissue_classes}

    @property
    def spellings(self) -> dict[int, tuple[str, ...]]:
        """All names of each id, body and tissues included, background not."""
        named = {one.id: (one.name, *one.aliases) for one in (*self.classes, *self.tissue_classes)}
        return named | {self.body_id: (BODY,)}

    @property
    def identity(self) -> Relabeling:
        """For label volumes that hold this set's own ids."""
        return Relabeling({number: number for number in (BACKGROUND, *self.names)}, {})

    def relabel(self, given: Names, source: str) -> Relabeling:
        """Finds the id here for each label value of others, by name.

        Names are compared by ``key``. Where all values keep their numbers, this set's body id, if nobody named it
        otherwise, is body too.

        Args:
            given: What their values mean; value 0 is background in any case.
            source: Whose names they are, for messages.

        Raises:
            DataError: A name is ambiguous, there or here; or no name is one of this set's.
        """
        refuse_equal_names(given, source)
        ids, unmatched, partners = {BACKGROUND: BACKGROUND}, {}, self._partners()
        for value, names in given.items():
            found = next((partners[key(name)] for name in names if key(name) in partners), set())
            if len(found) > 1:
                both = " or ".join(self.names[number] for number in sorted(found))
                raise DataError(f"{source}: {names[0]!r} could be {both} of {self.name}", hint="name it as one")
            if found:
                ids[value] = min(found)
            else:
                unmatched[value] = names[0]
        if unmatched and not set(ids.values()) - {BACKGROUND, self.body_id}:
            raise DataError(
                f"{source}: none of its names is one of {self.name}: {shortened(unmatched.values())}",
                hint=f"{self.name} has: {shortened(self.names.values(), 20)}",
            )
        if all(value == number for value, number in ids.items()) and self.body_id not in unmatched:
            ids[self.body_id] = self.body_id
        return Relabeling(ids, unmatched)

    def lacks(self, given: Names) -> list[str]:
        """The names that no class here has."""
        partners = self._partners()
        return [names[0] for names in given.values() if not any(key(name) in partners for name in names)]

    def numbers_like(self, given: Names) -> bool:
        """Whether each value is the id here of the class of its name."""
        partners = self._partners()
        return all(any(partners.get(key(name)) == {n} for name in names) for n, names in given.items())

    def _partners(self) -> dict[str, set[int]]:
        """The ids that go by a key: by name; else by alias; else by Dice partner; else by tissue."""
        always = {key("background"): {BACKGROUND}, key(BODY): {self.body_id}}
        levels: list[dict[str, set[int]]] = [always, {}, {}, {}]
        spellings: list[tuple[int, int, str | None]] = []
        for one in self.classes:
            spellings += [
                (0, one.id, one.name),
                *((1, one.id, alias) for alias in one.aliases),
                (2, one.id, one.dice),
            ]
        for one in self.tissue_classes:
            spellings += [(3, one.id, name) for name in (one.name, *one.aliases)]
        for level, number, name in spellings:
            if name:
                levels[level].setdefault(key(name), set()).add(number)
        return levels[3] | levels[2] | levels[1] | levels[0]

    def as_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back."""
        classes = [
            {"id": organ.id, "name": organ.name, "colour": organ.color}
            | ({"column": organ.column} if organ.column else {})
            | {"dice": organ.dice}
            | ({"aliases": list(organ.aliases)} if organ.aliases else {})
            for organ in self.classes
        ]
        tissues = {"tissues": asdict(self.tissues)} if self.tissues else {}
        return {"name": self.name, "classes": classes} | tissues

    @classmethod
    def from_json(cls, content: Any, source: str = "label set") -> LabelSet:  # noqa: ANN401  parsed JSON
        """Builds a set from ``{"name": ..., "classes": [{"id", "name", "colour", "dice"}, ...]}``.

        Only id and name are needed; a missing color is chosen, a missing Dice partner is the class of the same
        name.

        Raises:
            DataError: The content is of another form.
        """
        try:
            form = parse(_SetJSON, content, source)
        except DataError as error:
            hint = 'wanted: {"name": ..., "classes": [{"id": 1, "name": "spleen"}, ...]}'
            raise DataError(error.message, hint=hint) from error
        classes = (class_from_json(entry, source) for entry in form["classes"])
        tissues = parse(TissueThresholds, form["tissues"], source) if "tissues" in form else None
        return cls(form["name"], tuple(sorted(classes, key=lambda organ: organ.id)), tissues)


def key(name: str) -> str:
    """What names are compared by: without case, spaces, ``_`` and ``-``; AMOS22's other spellings count as one."""
    plain = _plain(name)
    return _aliases().get(plain, plain)


def refuse_equal_names(names: Names, source: str) -> None:
    """Refuses names of which two are the same.

    Raises:
        DataError: They are; it names both.
    """
    seen: dict[str, int] = {}
    for value, (name, *_) in names.items():
        if (other := seen.setdefault(key(name), value)) != value:
            raise DataError(
                f"{source}: {names[other][0]!r} ({other}) and {name!r} ({value}) are the same name",
                hint="rename one",
            )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name)).casefold()


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
def _aliases() -> dict[str, str]:
    return {_plain(alias): _plain(organ.name) for organ in AMOS22.classes for alias in organ.aliases}
