import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ctsynth import weights
from ctsynth.cli.app import app
from ctsynth.files import sha256

FILE = weights.TABLE["inception"].file


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("CTSYNTH_WEIGHTS", "XDG_DATA_HOME", "TORCH_HOME", "TOTALSEG_HOME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    return tmp_path / "ctsynth_weights"


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A file that stands in for Inception's."""
    path = tmp_path / "fetched"
    path.write_bytes(b"weights")
    monkeypatch.setitem(weights.TABLE, "inception", replace(weights.TABLE["inception"], sha256=sha256(path)))
    return path


def run(*words):
    return CliRunner().invoke(app, ["weights", *map(str, words)])


def test_without_weights_the_list_says_where_it_searched_and_what_to_do(folder):
    done = run()
    assert done.exit_code == 0, done.output
    assert done.stdout == run("list").stdout
    for entry in weights.TABLE.values():
        for word in (entry.sha256, f"curl -LO {entry.url}", f"ctsynth weights import {entry.file}", str(folder)):
            assert word in done.stdout
    assert "totalseg_download_weights -t total_fast" in done.stdout
    assert done.stderr == ""


def test_a_file_is_imported_listed_and_verified(folder, fetched):
    done = run("import", fetched)
    assert done.stdout == f"{folder / FILE}\n"
    found = json.loads(run("list", "--json").stdout)
    assert found["weights"]["inception"]["state"] == "ready"
    assert found["weights"]["inception"]["path"] == str(folder / FILE)
    assert found["weights"]["vgg19"]["state"] == "missing"
    assert found["folders"][0] == str(folder)
    assert "inception: ready" in run("verify").stdout
    assert run("verify", "inception").exit_code == 0


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["totalsegmentator"], ["totalsegmentator total", "totalsegmentator total_fast"]),
        (["total_fast"], ["totalsegmentator total_fast"]),
        (["vgg19", "totalsegmentator total", "total"], ["vgg19", "totalsegmentator total"]),
    ],
)
def test_list_shows_the_named_weights_only(words, shown):
    assert list(json.loads(run("list", *words, "--json").stdout)["weights"]) == shown


def test_the_tasks_of_totalsegmentator_are_verified_as_far_as_can_be(tmp_path, monkeypatch):
    missing = run("verify", "totalsegmentator")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "error: totalsegmentator total: no Dataset291_*" in missing.stderr
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    (tmp_path / "Dataset297_some").mkdir()
    assert run("verify", "total_fast").stdout.startswith("totalsegmentator total_fast: there.")


def test_verify_exits_with_2_for_what_is_damaged_or_named_and_missing(folder, fetched):
    assert run("verify").exit_code == 0
    assert run("verify", "inception").exit_code == 2
    run("import", fetched)
    (folder / FILE).write_bytes(b"half")
    done = run("verify")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{folder / FILE}: its SHA-256 is" in done.stderr
    assert "inception: damaged" in run("list").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import"], "no file to import"),
        (["import", "nowhere.pth"], "nowhere.pth: no such file"),
        (["list", "vgg16"], "no weights are called 'vgg16'"),
        (["fetch"], "fetch"),
    ],
)
def test_invalid_arguments_exit_with_2_and_a_message(words, message):
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
