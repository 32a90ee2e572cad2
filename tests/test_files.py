import os

import pytest

from ctsynth.errors import DataError, RunError
from ctsynth.files import atomic, read_json, write_json


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ZeroDivisionError), atomic(path) as partial:
        partial.write_text(str(1 / 0 if partial.write_text("half") else 0))
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]  # noqa: PTH208  names are what matters


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path):
    for content in ("one", "two"):
        with atomic(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
            assert not (tmp_path / "folder" / content).exists()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file/a"):
        write_json(tmp_path / "file" / "a.json", {})


def test_nan_never_reaches_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"psnr": float("nan")})
    assert not list(tmp_path.iterdir())


def test_what_is_no_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json: not a JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "b.json")
