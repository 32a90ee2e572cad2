"""The page on files lists every entry of the files of a real run, and no other."""

import json
import re

import pytest
from page_blocks import ROOT
from small_runs import ctsynth, fit

from ctsynth.data.store import Store

PAGE = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")


def listed(heading):
    """The entries in the first table below a heading, and which of them need not be there."""
    table = PAGE.split(f"{heading}\n")[1].split("\n\n| entry |")[1].split("\n\n")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:]]
    names = {name: "sometimes" in what for names, what in rows for name in re.findall(r"`(\w+)`", names)}
    return set(names), {name for name, optional in names.items() if optional}


@pytest.fixture
def made(tmp_path, small_amos, monkeypatch):
    """Files of a store, a run and a volume."""
    monkeypatch.chdir(tmp_path)
    small_amos(train=1, test=1)
    assert ctsynth("preprocess", "amos", "out", "--size", 16, "--workers", 1).exit_code == 0
    run = fit(Store.open(tmp_path / "out"), tmp_path / "run")
    done = ctsynth("sample", "--data", "out", "--model", "run", "--out", "drawn", "--steps", 2, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (checkpoint,) = (run / "checkpoints").glob("*6")
    return {
        "## A slice store: manifest.json": manifest,
        "### A subject": manifest["subjects"][0],
        "## A run: config.json": json.loads((checkpoint / "config.json").read_text()),
        "## A synthetic volume: NAME.json": json.loads((tmp_path / "drawn" / "amos_0101.json").read_text()),
    }, run


def test_the_tables_have_the_entries_of_the_files(made):
    files, run = made
    for heading, content in files.items():
        names, optional = listed(heading)
        assert names - optional <= content.keys() <= names, heading
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    for name in ("step", "epoch", "loss", "grad_norm", "lr", "images_per_s"):
        assert name in line
        assert f"`{name}`" in PAGE
    there = {path.name for path in (run / "checkpoints").glob("*/*")} - {"config.json"}
    assert there == set(re.findall(r"step_N/([\w.]+)`", PAGE))
