"""A report writes over nothing but an earlier report, and over that only if nothing of it is lost."""

import os

import pytest
from small_runs import ctsynth

from ctsynth.errors import UsageError
from ctsynth.reporting.folder import RECORD, replaced


def reported(out, *inputs, overwrite=False, **files):
    with replaced(out, inputs, overwrite=overwrite) as folder:
        for name, text in files.items():
            (folder / f"{name}.csv").write_text(text)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != RECORD}


@pytest.fixture
def inputs(tmp_path):
    return tmp_path / "one", tmp_path / "two"


def test_a_report_replaces_an_earlier_one(tmp_path, inputs):
    reported(tmp_path / "report", *inputs, table="1", more="2")
    reported(tmp_path / "report", *inputs, table="3")
    assert contents(tmp_path / "report") == {"table.csv": "3", "more.csv": "2"}
    reported(tmp_path / "report", *inputs, more="4")  # which is still known
    assert contents(tmp_path / "report") == {"table.csv": "3", "more.csv": "4"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("is_later", [False, True])
def test_a_users_file_is_not_overwritten(tmp_path, inputs, overwrite, is_later):
    out = tmp_path / "report"
    out.mkdir()
    if is_later:
        reported(out, *inputs, table="1")
    (out / "index.csv").write_text("three years of work")
    before = contents(out)
    with pytest.raises(UsageError, match=r"index\.csv: not overwritten"):
        reported(out, *inputs, overwrite=overwrite, table="2", index="2")
    assert contents(out) == before


def test_a_table_that_was_changed_by_hand_is_kept_without_overwrite(tmp_path, inputs):
    reported(tmp_path / "report", *inputs, table="1")
    (tmp_path / "report" / "table.csv").write_text("in bold")
    with pytest.raises(UsageError, match=r"table\.csv: changed since it was written"):
        reported(tmp_path / "report", *inputs, table="2")
    assert contents(tmp_path / "report") == {"table.csv": "in bold"}
    reported(tmp_path / "report", *inputs, overwrite=True, table="2")
    assert contents(tmp_path / "report") == {"table.csv": "2"}


def test_a_report_on_other_inputs_is_kept_without_overwrite(tmp_path, inputs):
    one, two = inputs
    reported(tmp_path / "report", one, table="1")
    with pytest.raises(UsageError, match=rf"the report there shows {one}, and this one does not") as error:
        reported(tmp_path / "report", two, table="2")
    assert "`overwrite`" in error.value.hint
    assert contents(tmp_path / "report") == {"table.csv": "1"}
    reported(tmp_path / "report", two, one, table="3")  # of which nothing is lost
    reported(tmp_path / "report", two, overwrite=True, table="4")
    assert contents(tmp_path / "report") == {"table.csv": "4"}


@pytest.mark.parametrize("text", ['{"schema": 2}', "[]", "{", '{"schema": 1, "inputs": [], "files": {"a": "b"}}'])
def test_a_users_report_json_is_not_overwritten(tmp_path, inputs, text):
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(UsageError, match=r"report\.json: not overwritten"):
        reported(tmp_path, *inputs, overwrite=True, table="1")
    assert (tmp_path / RECORD).read_text() == text
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize("step", range(4))
def test_the_same_command_resumes_after_an_interruption_anywhere(tmp_path, inputs, monkeypatch, step):
    """The record is written, two files are moved, and the record is written again: four renames."""
    out, left = tmp_path / "report", step
    reported(out, *inputs, table="1", more="1")
    replace = os.replace

    def killed(source, target):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            reported(out, *inputs, table="2", more="2")
    reported(out, *inputs, table="3", more="3")
    assert contents(out) == {"table.csv": "3", "more.csv": "3"}


def test_the_command_keeps_a_users_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mask"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    (tmp_path / "index.html").write_text("my home page")
    done = ctsynth("report", "runs/mask", "--out", ".", "--overwrite")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "index.html: not overwritten" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "runs"]
    assert ctsynth("report", "runs/mask").exit_code == 0
    assert ctsynth("report", "runs/mask").exit_code == 0
