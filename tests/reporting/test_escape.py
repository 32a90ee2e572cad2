"""Whatever people call a system, a table keeps its shape and a file its own name."""

import csv
import io
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctsynth.reporting.escape import csv_cell, file_stems, latex_cell, markdown_cell
from ctsynth.reporting.table import Table

NAMES = st.text(st.characters(codec="utf-8"), max_size=30)
FORMULAS = ["=1+1", "+SUM(A1)", "-cmd|' /C calc'!A0", "@SUM(1)", " =1", "\t=1", "-=1"]


def table(name):
    return Table(headers=("system", "PSNR ↑"), rows=((name, "-12.3 [-14.0 to -10.0]"), ("b", "1,234.5")))


@pytest.mark.parametrize("name", FORMULAS)
def test_no_text_in_a_csv_file_is_a_formula(name):
    (_, row, _) = csv.reader(io.StringIO(table(name).as_csv()))
    assert row[0].startswith("'")


@pytest.mark.parametrize("number", ["-1.5", "+.5", "12", "-12.3 [-14.0 to -10.0]", "", "mask"])
def test_numbers_and_plain_names_in_a_csv_file_stay_as_they_are(number):
    assert csv_cell(number) == number


@settings(deadline=None)
@given(NAMES)
@example('a,b\r\n"c"')
def test_csv_keeps_its_rows_and_columns(name):
    rows = list(csv.reader(io.StringIO(table(name).as_csv())))
    assert [len(row) for row in rows] == [2, 2, 2]


@settings(deadline=None)
@given(NAMES)
@example("a|b")
@example("a\\|b\n")
def test_markdown_keeps_its_rows_and_columns(name):
    lines = table(name).as_markdown().split("\n")
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines] == [3] * 4


@pytest.mark.parametrize("name", ["ddpm-mask", "subject_0 (a)", "1.5 [1.0 to 2.0]"])
def test_plain_names_in_markdown_stay_as_they_are(name):
    assert markdown_cell(name) == name


@settings(deadline=None)
@given(NAMES)
@example("[a]")
@example("*a")
@example(r"\input{x}$^~<&%#_}")
def test_latex_keeps_its_rows_and_columns_and_runs_no_command(name):
    text = latex_cell(name)
    plain = re.sub(
        r"\\(text(backslash|asciitilde|asciicircum|less|greater)\{\}|[&%$#_{}])|\$\\(down|up)arrow\$", "", text
    )
    assert not re.search(r"[\\&%$#_~^<>\n]", plain)
    assert not re.match(r"[\[*]", text)
    assert plain.count("{") == plain.count("}") <= 1
    assert len(table(name).as_latex().split("\n")) == 8


@settings(deadline=None)
@given(st.lists(NAMES, unique=True))
@example(["模型一", "模型二", "A b", "a-b", "", "?", "x" * 500, "x" * 501, "Jos\u00e9", "Jose\u0301", "a-b-2"])
def test_every_name_has_a_file_of_its_own(names):
    stems = file_stems(names)
    assert list(stems) == names
    assert len(set(stems.values())) == len(names)
    for stem in stems.values():
        assert re.fullmatch(r"[^\W_]+(-[^\W_]+)*", stem)
        assert len(stem.encode()) < 240


def test_plain_names_give_the_file_names_that_they_always_gave():
    names = ["Table 1", "DDPM (mask)", "step 10,000"]
    assert list(file_stems(names).values()) == ["table-1", "ddpm-mask", "step-10-000"]
