"""Parsed JSON and TOML: each field is as wanted, or the message names it, what it is and what it should be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from ctsynth.errors import DataError, UsageError
from ctsynth.files import write_json
from ctsynth.schema import Range, check, parse, read


class Entry(TypedDict):
    name: str
    shape: tuple[Annotated[int, Range(1)], int, int]
    spacing: NotRequired[list[float]]


@dataclass(frozen=True)
class Content:
    entries: list[Entry]
    rate: Annotated[float, Range(0, 1, below=True)] = 0.5
    split: Literal["train", "test"] = "train"
    counts: dict[str, int] | None = None

    def __post_init__(self) -> None:
        if self.rate == 0.25:
            raise UsageError("rate is odd")


ENTRY = {"name": "a", "shape": [1, 2, 3], "what else": [None]}


def test_a_dataclass_is_built_and_a_typed_dict_stays_as_it_is():
    content = parse(Content, {"entries": [ENTRY], "rate": 0, "counts": {"x": 1}}, "x.json")
    assert content == Content([ENTRY], 0.0, "train", {"x": 1})
    assert isinstance(content.rate, float)
    assert content.entries[0] is ENTRY


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "it holds [], wanted an object {...}"),
        (None, "it holds None, wanted an object {...}"),
        ({}, "entries is missing"),
        ({"entries": {}}, "entries is {}, wanted a list"),
        ({"entries": [ENTRY, 3]}, "entries[1] is 3, wanted an object {...}"),
        ({"entries": [{"name": "a"}]}, "entries[0].shape is missing"),
        ({"entries": [ENTRY | {"shape": [1, 2]}]}, "entries[0].shape is [1, 2], wanted a list of 3"),
        (
            {"entries": [ENTRY | {"shape": [0, 2, 3]}]},
            "entries[0].shape[0] is 0, wanted a whole number of at least 1",
        ),
        ({"entries": [ENTRY | {"spacing": [True]}]}, "entries[0].spacing[0] is True, wanted a finite number"),
        ({"entries": [], "rate": math.nan}, "rate is nan, wanted a finite number within [0, 1)"),
        ({"entries": [], "rate": 1}, "rate is 1, wanted a finite number within [0, 1)"),
        ({"entries": [], "rate": 10**400}, "rate is 1"),
        ({"entries": [], "split": True}, "split is True, wanted one of train, test"),
        ({"entries": [], "counts": {"x": 1.0}}, "counts.x is 1.0, wanted a whole number"),
        ({"entries": [], "speed": 1}, "unknown key 'speed'"),
        ({"entries": [], "rate": 0.25}, "rate is odd"),
    ],
    ids=str,
)
def test_a_value_that_violates_the_schema_is_named(content, said):
    with pytest.raises(DataError) as refused:
        parse(Content, content, "x.json")
    assert str(refused.value).startswith(f"x.json: {said}")
    assert len(str(refused.value)) < 200


def test_a_dataclass_checks_itself():
    check(Content([], rate=0.75))
    with pytest.raises(UsageError, match=r"^`rate` is 1\.5, wanted a finite number within \[0, 1\)$"):
        check(Content([], rate=1.5))


def test_the_schema_of_a_file_goes_before_its_form(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"schema": 2, "entries": 3})
    for schema, hint in ((1, "update ctsynth"), (3, "make it again")):
        with pytest.raises(DataError, match=f"schema 2, this version reads {schema}") as refused:
            read(path, Content, schema=schema, hint="make it again")
        assert refused.value.hint == hint
    assert read(path, dict[str, Any], schema=2)["entries"] == 3
    write_json(path, {"entries": 3})
    with pytest.raises(DataError, match=r"x\.json: it has no schema, wanted 1"):
        read(path, Content, schema=1)
