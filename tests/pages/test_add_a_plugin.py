"""The examples of a method and a metric: their pages run, and they compute what they say."""

import json
import sys

import numpy as np
import pytest
from measured_metrics import MeasuredMetric
from page_blocks import ROOT, blocks, runs
from small_stores import both_splits, make_store, write_synthetic

from ctsynth.data.volume import Volume
from ctsynth.metrics.base import find_metric
from ctsynth.scoring.pairs import read_pair

PLUGINS = ROOT / "examples" / "plugins"


@pytest.fixture(autouse=True)
def own_modules():
    """What is loaded from a folder of plug-ins is forgotten."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("ctsynth.methods.", "ctsynth.metrics.")) and not name.rsplit(".", 1)[1].startswith(
            "_"
        ):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("page", "file"), [("add_a_method", "methods/regression"), ("add_a_metric", "metrics/mae")]
)
def test_the_page_shows_the_file(page, file):
    shown = [block for block in blocks(ROOT / "docs" / "guides" / f"{page}.md") if block.file]
    assert [block.file for block in shown] == [f"examples/plugins/{file}.py"]
    assert shown[0].text == (PLUGINS / f"{file}.py").read_text(encoding="utf-8")


@runs("docs/guides/add_a_method.md")
def test_a_method_of_ones_own_goes_all_the_way(page, tmp_path, small_case):
    both_splits(tmp_path / "out", small_case)
    page.smaller["--method regression"] = "--method regression --set channels=4"
    page.small["sample"] = ["--device", "cpu"]
    page.run()
    row = json.loads((tmp_path / "runs" / "regression" / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["absolute"] == row["loss"]
    volume = Volume.load(tmp_path / "synthetic" / "regression" / "subject_t.nii.gz")
    assert volume.voxels.dtype == np.int16


@runs("docs/guides/add_a_metric.md")
def test_a_metric_of_ones_own_is_scored(page, tmp_path, small_case):
    write_synthetic(tmp_path / "synthetic", make_store(tmp_path / "out", [small_case(1), small_case(2)]))
    page.run()
    (table,) = page.printed.values()
    assert "MAE in body" in table
    metrics = json.loads((tmp_path / "synthetic" / "scores.json").read_text())["metrics"]
    assert set(metrics) >= {"mae", "psnr"}
    assert metrics["mae"]["total"]["n"] == 12


def test_the_example_metric_of_a_shift_by_10_hu_is_10(tmp_path, small_case, monkeypatch):
    monkeypatch.setenv("CTSYNTH_PLUGINS", str(PLUGINS))
    store = make_store(tmp_path / "out", [small_case()])
    (subject,) = store.subjects("test")
    file = write_synthetic(tmp_path / "made", store) / f"{subject.name}.nii.gz"
    pair = read_pair(subject, file, store)
    real = np.clip(pair.real, 0.1, 0.9)
    shifted = type(pair)(
        pair.subject, real, real + 10 / pair.window.width, pair.mask, pair.labels, pair.window, pair.geometry
    )
    result = MeasuredMetric(find_metric("mae")(), shifted).result()
    assert result.total.value == pytest.approx(10)
