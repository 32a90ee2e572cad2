"""Floor and ceiling stand wherever the scores do, with what they are."""

import csv
import io
from dataclasses import replace

import pytest
from scored import make_store, write_synthetic

from ctsynth.report.page import build_report
from ctsynth.report.tables import FORMATS, render
from ctsynth.scores import Reference, Value
from ctsynth.scoring import score


@pytest.fixture
def scores(tmp_path, small_case):
    store = make_store(tmp_path / "out", [small_case(0)])
    found = score(write_synthetic(tmp_path / "samples", store), store, "test", metrics=["psnr", "hu"])
    ceiling = {"hu": Value(value=2.25, n=2, unit="HU"), "hu/liver": Value(value=3.5, n=1, unit="HU")}
    return replace(
        found,
        floor=Reference(values={"psnr": Value(value=12.345, n=6, unit="dB")}),
        ceiling=Reference(values=ceiling),
    )


def test_floor_and_ceiling_are_rows_of_one_systems_table(scores):
    lines = render({"a": scores}, "table").splitlines()[-2:]
    assert [line.split("  ")[0] for line in lines] == [
        "PSNR (dB) of real slices (floor)", "Organ HU error (HU) of the real CT (ceiling)",
    ]  # fmt: skip
    assert ["12.35" in lines[0], "6 slices" in lines[0], "2.2" in lines[1], "2 organs" in lines[1]] == [True] * 4


@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("systems", [1, 2])
def test_they_are_in_every_format_once_for_all_that_share_them(scores, form, systems):
    text = render({f"system {number}": scores for number in range(systems)}, form)
    assert text.count("real slices (floor)") == 1
    assert text.count("the real CT (ceiling)") == (2 if form == "csv" else 1)  # the set and an organ


def test_those_that_differ_are_named_by_their_system(scores):
    other = replace(scores, floor=Reference(values={"psnr": Value(value=9.0, n=6, unit="dB")}))
    text = render({"a": scores, "b": other}, "table")
    assert "real slices (floor), a" in text
    assert "real slices (floor), b" in text


def test_csv_gives_their_organs_too(scores):
    rows = list(csv.DictReader(io.StringIO(render({"a": scores}, "csv"))))
    last = [(row["system"], row["metric"], row["organ"], row["value"], row["counted"]) for row in rows[-3:]]
    assert last == [
        ("real slices (floor)", "psnr", "", "12.345", "slices"),
        ("the real CT (ceiling)", "hu", "", "2.25", "organs"),
        ("the real CT (ceiling)", "hu", "liver", "3.5", "subjects"),
    ]


def test_the_page_has_them_and_says_what_they_are(scores, tmp_path):
    scores.save(tmp_path / "scores.json")
    page = build_report([tmp_path / "scores.json"], tmp_path / "report").read_text()
    assert "PSNR (dB) of real slices (floor)" in page
    assert "no method can be expected below it" in page
    assert "no method can be expected to pass it" in page


def test_nothing_is_said_of_what_was_not_computed(scores):
    nothing = Reference(values=None, reason="")
    text = render({"a": replace(scores, floor=nothing, ceiling=nothing)}, "table")
    assert "real" not in text
