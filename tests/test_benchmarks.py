"""What the benchmarks rest on, but not their timing: both sides find the same, and a ratio is what it says."""

import functools
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import __main__ as main
from benchmarks import evaluations, volumes
from benchmarks.__main__ import ROWS, amount, held, keep, kept, page
from benchmarks.row import Figure, Row, compare, measure

from ctsynth.phantom.subject import make_subject

NOWHERE = Path("no official checkouts")


@functools.cache
def few_slices():
    return make_subject(0, 0, size=512, slices=3)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.within is not None])
def test_ours_and_the_peers_code_find_the_same(name, tmp_path, monkeypatch):
    row = ROWS[name]
    monkeypatch.setattr(volumes, "phantom", few_slices)
    try:
        sides = (row.small or row.setup)(NOWHERE, tmp_path)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    assert compare(row, sides) <= row.within


def row_of(ours, peers, **options):
    return Row(name="a", quantity="", peer="", hold=1.0, setup=lambda *_: (ours, peers), **options)


def test_implementations_with_different_results_get_no_speed_figure():
    with pytest.raises(AssertionError, match=r"a: 5\.0e-02 apart, 1e-02 at most"):
        measure(row_of(lambda: [1.0, 1.9], lambda: [1.0, 2.0], within=0.01), NOWHERE, 3)


def test_a_ratio_is_the_median_over_pairs_and_the_first_call_does_not_count():
    ours, peers = itertools.chain([99.0], itertools.cycle([1.0, 2.0, 6.0])), itertools.repeat(2.0)
    row = row_of(lambda: next(ours), lambda: next(peers), returned=True)
    figure = measure(row, NOWHERE, 3)
    assert (figure.ours, figure.peers, figure.ratio) == (2.0, 2.0, 1.0)
    assert (figure.low, figure.high) == (0.75, 2.0)
    assert held(figure)
    assert not held(replace(figure, ratio=1.01))
    assert held(replace(figure, ratio=9.0, row=replace(row, hold=None)))


def test_the_page_shows_the_last_figure_of_each_row_however_many_calls_measured_them(tmp_path, monkeypatch):
    results = tmp_path / "cpu.jsonl"
    monkeypatch.setattr(main, "RESULTS", results)
    for name, ratio, pairs in (("reading", 0.5, 7), ("help", 0.09, 3), ("reading", 0.25, 7)):
        keep(Figure(ROWS[name], ours=ratio, peers=1.0, low=ratio, ratio=ratio, high=ratio, apart=None), pairs)
    last = kept(results.read_text().splitlines())
    assert [(name, one["ratio"], one["pairs"]) for name, one in last.items()] == [
        ("reading", 0.25, 7),
        ("help", 0.09, 3),
    ]
    shown = page(last)
    assert "over 3 pairs or more" in " ".join(shown.split())
    assert "| 250 ms | 1 s | 0.25 |" in shown
    assert "| 500 ms |" not in shown
    assert "Not measured: ddpm-concat, " in shown


def test_amounts_have_a_unit_that_suits_them():
    assert [amount(value, "s") for value in (12.34, 0.00123, 4e-6)] == ["12.3 s", "1.23 ms", "4 µs"]
    assert [amount(2.5e9, "B"), amount(20, "evaluations"), amount(1000, "evaluations")] == [
        "2.5 GB",
        "20",
        "1,000",
    ]


def test_the_default_sampler_is_within_half_a_hounsfield_unit_of_known_organs_from_10_evaluations_on():
    counts = evaluations.COUNTS[evaluations.COUNTS.index(10) :]
    assert max(map(evaluations.error_of_default, counts)) < evaluations.ROUNDING < evaluations.error_of_default(8)
