"""Floor and ceiling stand wherever the scores do, with what they are."""

import csv
import io
from dataclasses import replace

import pytest
from markupsafe import escape
from small_stores import make_store, write_synthetic

from ctsynth.reporting.page import build_report
from ctsynth.reporting.tables import FORMATS, between, labelled, number, remarks, render, score_table
from ctsynth.scoring.run import score
from ctsynth.scoring.scores import Reference, Value


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


@pytest.mark.parametrize(
    ("value", "text"), [(-0.04, "0.0"), (-0.0, "0.0"), (-0.06, "-0.1"), (0.04, "0.0"), (None, "—")]
)
def test_zero_has_no_sign(value, text):
    assert number(value, 1) == text
    assert between(Value(value=0.0, low=value, high=0.04), 1, 2) == ("—" if value is None else f"{text} to 0.0")


def test_floor_and_ceiling_are_rows_of_one_systems_table(scores):
    lines = render({"a": scores}, "table").splitlines()[-2:]
    assert [line.split("  ")[0] for line in lines] == [
        "PSNR (dB), floor", "Organ HU error (HU), ceiling",
    ]  # fmt: skip
    assert ["12.35" in lines[0], "6 slices" in lines[0], "2.2" in lines[1], "2 organs" in lines[1]] == [True] * 4


def test_a_floor_of_a_metric_without_scores_is_in_the_csv_without_what_was_counted(scores):
    left = {name: result for name, result in scores.metrics.items() if name != "psnr"}
    (row,) = [
        row
        for row in csv.DictReader(io.StringIO(render({"a": replace(scores, metrics=left)}, "csv")))
        if row["metric"] == "psnr"
    ]
    assert (row["value"], row["counted"]) == ("12.345", "")


@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("systems", [1, 2])
def test_shared_references_are_shown_once_in_every_format(scores, form, systems):
    text = render({f"system {number}": scores for number in range(systems)}, form)
    is_row = systems == 1 and form != "csv"  # a row of its own for each metric
    assert text.count(", floor" if is_row else "real slices (floor)") == 1
    titles = text.count(", ceiling" if is_row else "the real CT (ceiling)")
    assert titles == (2 if form == "csv" else 1)  # the set and an organ


def test_references_that_differ_are_named_by_their_system(scores):
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
    assert "PSNR (dB), floor" in page
    for words in remarks(scores):
        assert str(escape(words)) in page


def with_score(scores, name, value):
    result = scores.metrics[name]
    return replace(scores, metrics={name: replace(result, total=replace(result.total, value=value))})


def test_a_score_short_of_the_ceiling_keeps_the_remark_on_what_can_be_expected(scores):
    worse = with_score(scores, "hu", 2.3)
    assert remarks(worse)[1:] == [
        "ceiling: the segmenter on the real windowed volumes; no method can be expected to pass it"
    ]
    equal = with_score(scores, "hu", 2.2501)  # as shown
    assert remarks(equal) == remarks(worse)


def test_a_score_better_than_the_reference_is_noted_and_not_called_impossible(scores):
    assert remarks(with_score(scores, "hu", 1.04))[1:] == [
        "ceiling: the segmenter on the real windowed volumes; Organ HU error 1.0 is better than its 2.2: "
        "organs with clearer borders than a CT shows are easier to segment, and not more real"
    ]
    better = remarks(with_score(scores, "psnr", 20.0))[0]
    assert "PSNR 20.00 is better than its 12.35" in better
    assert "can be expected" not in better


def test_scores_on_phantoms_say_so_in_every_format_and_compare_to_nothing(scores):
    phantom = replace(scores, phantom=True)
    assert remarks(phantom)[0] == (
        "Scored on phantoms, not on CT of patients: these numbers compare to nothing published"
    )
    assert not any("phantom" in words for words in remarks(scores))
    for form in sorted(FORMATS):
        text = render({labelled("a", phantom=True): phantom}, form)
        assert "(phantoms)" in text
        assert ("the phantoms (ceiling)" in text) == (form == "csv")
        assert "phantom" not in render({"a": scores}, form)


def test_phantoms_are_never_marked_best_beside_patients(scores):
    good = with_score(replace(scores, phantom=True), "psnr", 99.0)
    patients = [with_score(scores, "psnr", value) for value in (20.0, 21.0)]
    assert score_table({"p": good, "a": patients[0], "b": patients[1]}).best == {(2, 1)}
    other = with_score(good, "psnr", 98.0)
    assert score_table({"p": good, "q": other}).best == {(0, 1)}


def test_references_that_were_not_computed_are_not_mentioned(scores):
    nothing = Reference(values=None, reason="")
    text = render({"a": replace(scores, floor=nothing, ceiling=nothing)}, "table")
    assert "real" not in text
