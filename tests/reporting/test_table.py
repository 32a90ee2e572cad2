import pytest

from ctsynth.reporting.table import NOTHING, Table, best_rows

TABLE = Table(
    headers=("method", "source", "FID ↓", "DSC (%) ↑"),
    rows=(
        ("SDM", "paper", NOTHING, NOTHING),
        ("SDM", "ctsynth", "1,234.5", "80.0"),
    ),
    best=frozenset({(1, 3)}),
    names=2,
    quoted=frozenset({0}),
)


def test_csv_is_for_programs():
    assert TABLE.as_csv().splitlines() == ["method,source,FID,DSC (%)", "SDM,paper,,", "SDM,ctsynth,1234.5,80.0"]


def test_markdown_sets_names_left_and_the_best_in_bold():
    lines = TABLE.as_markdown().splitlines()
    assert lines[1] == "| :-- | :-- | --: | --: |"
    assert lines[3] == "| SDM | ctsynth | 1,234.5 | **80.0** |"


def test_latex_has_no_character_that_latex_does_not_take():
    text = TABLE.as_latex()
    assert text.isascii()
    assert r"\begin{tabular}{llrr}" in text
    assert r"SDM & paper & --- & --- \\" in text
    assert r"\textbf{80.0}" in text
    assert r"DSC (\%) $\uparrow$" in text


def test_text_columns_are_as_wide_as_their_widest_cell():
    header, rule, *rows = TABLE.as_text().splitlines()
    assert header.startswith("method  source   ")
    assert [len(part) for part in rule.split("  ")] == [6, 7, 7, 9]
    assert rows[1] == "SDM     ctsynth  1,234.5       80.0"


def test_a_table_wider_than_the_terminal_comes_in_blocks_that_each_name_the_rows():
    narrow = TABLE.as_text(26)
    assert narrow.splitlines() == [
        "method  source     FID ↓",
        "------  -------  -------",
        "SDM     paper          —",
        "SDM     ctsynth  1,234.5",
        "",
        "method  source   DSC (%) ↑",
        "------  -------  ---------",
        "SDM     paper            —",
        "SDM     ctsynth       80.0",
    ]
    assert TABLE.as_text(5) == TABLE.as_text(25) == narrow  # a column is never broken
    assert TABLE.as_text(35) == TABLE.as_text()


def test_a_quoted_row_is_set_apart_and_the_best_in_bold():
    page = TABLE.as_html()
    assert '<tr class="quoted"><th scope="row">SDM</th><td class="name">paper</td>' in page
    assert '<td class="best">80.0</td>' in page


@pytest.mark.parametrize(
    ("values", "higher", "best"),
    [
        ([1.0, 3.0, 2.0], True, [1]),
        ([1.0, 3.0, 2.0], False, [0]),
        ([1.004, 1.0, 0.5], True, [0, 1]),  # equal as shown
        ([1.0, 1.0], True, []),
        ([None, 1.0], True, [1]),
        ([None, None], True, []),
        ([1.0, 2.0], None, []),
    ],
)
def test_the_best_is_the_best_as_shown(values, higher, best):
    assert best_rows(values, 2, higher_is_better=higher) == best
