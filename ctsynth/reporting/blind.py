"""A blind reading: real and synthetic slices in random order, for a reader who does not know which are which."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import numpy as np
from PIL import Image

from ctsynth import figures
from ctsynth.data.store import Store
from ctsynth.errors import DataError, UsageError
from ctsynth.files import write_json, write_text
from ctsynth.reporting.blind_page import blind_page
from ctsynth.reporting.figures import png_uri
from ctsynth.schema import Range, read
from ctsynth.scoring.pairs import read_pair
from ctsynth.scoring.scores import Scores

PAGE, ANSWERS = "blind.html", "blind-answers.json"

SCHEMA = 1
"""Schema of answers and marks."""

BODY = 0.05
"""Share of a slice that must be body."""

Truth = Literal["real", "synthetic"]


class _Answer(TypedDict):
    truth: Truth
    system: str
    subject: str
    slice: Annotated[int, Range(1)]


class _Answers(TypedDict):
    reading: str
    pictures: list[_Answer]


class _Marks(TypedDict):
    reading: str
    marks: dict[str, Truth]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader's marks come to.

    Args:
        right: Pictures that were marked as what they are.
        marked: Pictures that were marked.
        pictures: All pictures.
        by_system: Right and marked synthetic pictures of each system.
    """

    right: int
    marked: int
    pictures: int
    by_system: Mapping[str, tuple[int, int]]

    def lines(self) -> list[str]:
        """The accuracy with its interval, in words; then that of each system's pictures."""
        said = [f"{_share(self.right, self.marked)} right of {self.marked} pictures; 50 % is guessing"]
        if self.marked < self.pictures:
            said.append(f"{self.pictures - self.marked} of {self.pictures} pictures are not marked: left out")
        said += [f"{name}: {_share(*counts)} seen to be synthetic" for name, counts in self.by_system.items()]
        return said


def write_reading(systems: Mapping[str, Scores], count: int, folder: Path) -> None:
    """Writes the page and, in a file of its own, the answers.

    Half of the pictures are real, the others are shared by the systems. No slice is shown twice, not as real and
    synthetic either. The order depends on the scores alone, so the same command gives the same page.

    Args:
        systems: By name, the scores whose volumes are shown.
        count: Pictures.
        folder: Where to.

    Raises:
        UsageError: Nothing was scored, or there are not so many slices.
        DataError: A volume is no longer where scores.json points.
    """
    if not systems:
        raise UsageError(
            "`blind`: nothing here has been scored, wanted scores of the volumes to read",
            hint="score them first: ctsynth score SYNTHETIC, and name SYNTHETIC/scores.json",
        )
    known = [
        [name, one.settings.get("store_digest"), sorted(one.sources.synthetic)] for name, one in systems.items()
    ]
    digest = hashlib.sha256(json.dumps([SCHEMA, count, known]).encode()).hexdigest()
    rng = np.random.default_rng(int(digest[:16], 16))
    chosen = _choose(systems, count, rng)
    pictures = dict(_drawn(systems, chosen))
    write_text(folder / PAGE, blind_page([pictures[number] for number in range(count)], digest[:16]))
    write_json(folder / ANSWERS, {"schema": SCHEMA, "reading": digest[:16], "pictures": chosen})


def read_marks(marks: Path, answers: Path) -> Reading:
    """Compares a reader's marks with the answers.

    Raises:
        DataError: A file is missing or of another form.
        UsageError: The marks are of another page, or there are none.
    """
    truth = read(answers, _Answers, schema=SCHEMA)
    given = read(marks, _Marks, schema=SCHEMA, hint="name the file that a reader saved from blind.html")
    if given["reading"] != truth["reading"]:
        raise UsageError(
            f"{marks}: marks of reading {given['reading']}, and {answers} has the answers to {truth['reading']}",
            hint="name the report's folder with `out`",
        )
    pictures = truth["pictures"]
    found = {number: mark for number, mark in given["marks"].items() if number.isdecimal()}
    known = [(one, found[str(n)]) for n, one in enumerate(pictures, start=1) if str(n) in found]
    if not known:
        raise UsageError(f"{marks}: no picture of this page is marked")
    by_system: dict[str, tuple[int, int]] = {}
    for answer, mark in known:
        if answer["truth"] == "synthetic":
            right, marked = by_system.get(answer["system"], (0, 0))
            by_system[answer["system"]] = right + (mark == "synthetic"), marked + 1
    right = sum(answer["truth"] == mark for answer, mark in known)
    return Reading(right, len(known), len(pictures), by_system)


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which holds for few pictures and shares near 0 and 1."""
    z = 1.959964
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(right: int, count: int) -> str:
    low, high = wilson(right, count)
    return f"{100 * right / count:.0f} % [{100 * low:.0f} to {100 * high:.0f} %]"


def _choose(systems: Mapping[str, Scores], count: int, rng: np.random.Generator) -> list[_Answer]:
    """Which slice of whom each picture shows, in the order of the page."""
    slices = {name: list(_slices(name, one)) for name, one in systems.items()}
    names = list(systems)
    chosen: list[_Answer] = []
    taken: set[tuple[str, int]] = set()
    queues = {name: iter([slices[name][k] for k in rng.permutation(len(slices[name]))]) for name in names}
    for number in range(count):
        truth: Truth = "real" if number % 2 else "synthetic"
        system = names[number // 2 % len(names)]
        place = next((place for place in queues[system] if place not in taken), None)
        if place is None:
            raise UsageError(
                f"a blind reading of {count} slices: there are only {number} to show",
                hint=f"ask for {number} and fewer",
            )
        taken.add(place)
        chosen.append(_Answer(truth=truth, system=system, subject=place[0], slice=place[1] + 1))
    return [chosen[k] for k in rng.permutation(count)]


def _slices(name: str, scores: Scores) -> Iterator[tuple[str, int]]:
    store = _store(name, scores)
    for subject in scores.sources.synthetic:
        mask = store.subjects_by_name[subject].mask()
        for z, plane in enumerate(mask):
            if (plane != 0).mean() >= BODY:
                yield subject, z


def _drawn(systems: Mapping[str, Scores], chosen: Sequence[_Answer]) -> Iterator[tuple[int, str]]:
    """The pictures as addresses, by their place; each volume is read once."""
    volumes = dict.fromkeys((one["system"], one["subject"]) for one in chosen)
    for system, subject in volumes:
        scores = systems[system]
        store = _store(system, scores)
        pair = read_pair(store.subjects_by_name[subject], scores.sources.synthetic[subject], store)
        for number, one in enumerate(chosen):
            if (one["system"], one["subject"]) == (system, subject):
                values = pair.real if one["truth"] == "real" else pair.synthetic
                yield number, _address(figures.gray(values[one["slice"] - 1]))


def _store(name: str, scores: Scores) -> Store:
    store = Store.open(scores.sources.store)
    if missing := [one for one in scores.sources.synthetic if one not in store.subjects_by_name]:
        raise DataError(f"{store.root}: there is no subject {missing[0]!r}, which was scored as {name}")
    return store


def _address(pixels: figures.RGB) -> str:
    """A slice as PNG, every pixel of it, with nothing that tells where it comes from."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("L").save(buffer, format="PNG", optimize=True)
    return png_uri(buffer.getvalue())
