import fnmatch
import json
import tomllib
from pathlib import Path

import pytest

import ctsynth
from ctsynth.errors import DataError
from ctsynth.report import paper
from ctsynth.report.comparison import KID, METRICS, ORGANS

ROOT = Path(ctsynth.__file__).parents[1]


def known(table):
    return {(row.method, name): value for row in table.rows for name, value in row.values.items() if value}


def test_only_what_was_read_in_the_paper_is_entered_and_its_contradiction_is_kept():
    tables = paper.load().tables
    assert known(tables[1]) == {("ddpm-edge", "spleen"): "93.5"}
    assert known(tables[2]) == {("ddpm-edge", "spleen"): "93.9", ("oasis", "gallbladder"): "78.9"}
    assert any("93.5" in line and "93.9" in line for line in paper.load().remarks)


def test_table_2s_best_gallbladder_is_oasis_as_the_text_says():
    (best,) = paper.load().tables[2].best("gallbladder", higher_is_better=True)
    assert (best.method, best.values["gallbladder"]) == ("oasis", "78.9")


def test_every_cell_has_its_column_and_the_seven_methods_their_rows():
    numbers = paper.load()
    columns = {*METRICS, *ORGANS} - {KID}
    assert len(ORGANS) == 14
    assert all(set(row.values) == columns for table in numbers.tables.values() for row in table.rows)
    assert {row.method for row in numbers.tables[2].rows} == set(numbers.methods)
    assert len(numbers.methods) == 7


def copy(tmp_path, change):
    content = json.loads(paper.NUMBERS.read_text())
    change(content["tables"])
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    return path


def test_numbers_filled_in_are_kept_as_printed_and_the_best_is_found_once_all_are_there(tmp_path):
    def fill(tables):
        for number, row in enumerate(tables["2"]["rows"]):
            row["values"]["fid"] = f"{30 - number}.50"
        for row in tables["2"]["rows"][1:]:
            row["values"]["ssim"] = "0.5"

    table = paper.load(copy(tmp_path, fill)).tables[2]
    assert table.rows[0].values["fid"] == "30.50"
    assert [row.method for row in table.best("fid", higher_is_better=False)] == ["ddpm-edge"]
    assert table.best("ssim", higher_is_better=True) == []


@pytest.mark.parametrize("value", ["93,5", "about 90", ""])
def test_what_is_no_number_is_refused_with_its_place(tmp_path, value):
    path = copy(tmp_path, lambda tables: tables["1"]["rows"][0]["values"].update(fid=value))
    with pytest.raises(DataError, match=r"mine\.json: fid of ddpm-concat is"):
        paper.load(path)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"x\.json: not the paper's numbers"):
        paper.load(tmp_path / "x.json")


def test_the_numbers_are_part_of_the_installed_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    place = str(paper.NUMBERS.relative_to(ROOT / "ctsynth"))
    assert any(fnmatch.fnmatch(place, pattern) for pattern in settings["ctsynth"])
