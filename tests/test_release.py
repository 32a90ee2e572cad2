"""One version, and what an earlier one made is taken as it is."""

import json
import re
import tomllib
from importlib import import_module
from pathlib import Path

import yaml
from small_cases import make_small_case
from small_runs import ctsynth, fit
from small_stores import both_splits

from ctsynth import __version__
from ctsynth.scoring.scores import Scores

ROOT = Path(__file__).parents[1]
RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


def test_package_changelog_and_citation_name_the_same_version_and_day():
    newest = RELEASE.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], str(citation["date-released"])) == newest.groups()
    assert __version__ == newest[1]


def test_the_version_stands_in_the_package_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ctsynth.__version__"}
    assert ctsynth("--version").stdout == f"ctsynth {__version__}\n"


def test_what_the_first_release_made_is_neither_refused_nor_made_again(tmp_path, monkeypatch):
    store = both_splits(tmp_path / "out", make_small_case)
    run, drawn = tmp_path / "run", tmp_path / "drawn"
    sample = ["sample", "--data", store.root, "--split", "test", "--model", run, "--out", drawn, "--steps", "1"]
    score = ["score", drawn, "--data", store.root, "--metrics", "psnr", "--json"]
    with monkeypatch.context() as early:
        for module in ("training.configure", "sampling.record", "scoring.run"):
            early.setattr(import_module(f"ctsynth.{module}"), "__version__", "0.1.0")
        fit(store, run, iterations=4, tissue_dropout=0.2)  # what a config.json without it is read as
        assert ctsynth(*sample).exit_code == 0
        first = json.loads(ctsynth(*score).stdout)
    assert {
        json.loads(path.read_text())["version"] for path in (*run.glob("*.json"), *drawn.glob("s*_t.json"))
    } == {"0.1.0"}
    assert Scores.load(drawn / "scores.json").versions["ctsynth"] == "0.1.0"

    before = {path: path.read_bytes() for path in drawn.glob("s*_t.*")}
    again = ctsynth(*sample)
    assert again.exit_code == 0, again.stderr
    assert len(before) == 2
    assert {path: path.read_bytes() for path in before} == before
    second = json.loads(ctsynth(*score).stdout)
    assert second["metrics"] == first["metrics"]
    assert second["versions"]["ctsynth"] == __version__
    fit(store, run, iterations=6, tissue_dropout=0.7)  # has no effect without tissues
    assert (run / "latest").read_text() == "step_000000006\n"


def test_every_file_of_the_package_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["ctsynth"]
    shipped = {path for pattern in patterns for path in (ROOT / "ctsynth").glob(pattern)}
    there = {path for path in (ROOT / "ctsynth").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in there if path.suffix != ".py"} == shipped
    assert all((path.parent / "__init__.py").is_file() for path in there if path.suffix == ".py")
