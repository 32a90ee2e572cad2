"""The demo as a user sees it: short in every run, in full where minutes may be spent."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from ctsynth.cli import demo
from ctsynth.cli.app import app
from ctsynth.data.slices import to_slices
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.methods.base import find_method


def run_demo(folder, *options):
    result = CliRunner().invoke(app, ["demo", str(folder), *options])
    assert result.exit_code == 0, result.output
    page = folder / "report" / "index.html"
    assert result.stdout.strip().endswith(str(page))
    return page, result


def test_the_demo_goes_all_the_way(tmp_path, monkeypatch):
    small = {"SUBJECTS": 2, "TEST_SUBJECTS": 1, "PHANTOM_SIZE": 48, "SLICES": 8, "SIZE": 32}
    for name, number in small.items():
        monkeypatch.setattr(demo, name, number)
    monkeypatch.setattr(find_method("ddpm-mask"), "steps", 3)
    page, result = run_demo(tmp_path / "demo", "--iterations", "10", "--device", "cpu")
    assert "PSNR" in result.stdout
    caveat = "Scored on phantoms, not on CT of patients: these numbers compare to nothing published"
    assert caveat in page.read_text(encoding="utf-8")
    assert caveat in " ".join(result.stderr.split())
    assert "ddpm-mask from tissues" in result.stdout
    for kind in ("tissues", "body"):
        scores = json.loads((tmp_path / "demo" / "synthetic" / f"from_{kind}" / "scores.json").read_text())
        assert scores["phantom"] is True
        assert scores["name"] == f"ddpm-mask from {kind}"
        assert scores["provenance"]["sampler"]["steps"] == 3  # the method's own
    assert "Figure 4. Mask, the slice of each method, phantom" in html_of(page)
    assert 'href="viewer.html"' in html_of(page)
    assert "from tissues" in (page.parent / "viewer.html").read_text(encoding="utf-8")
    assert html_of(page).index("From body: the mask has one class") < html_of(page).index("<img")
    assert html_of(page).index("<img") < html_of(page).index("<h2>Scores")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").rglob("*.nii.gz")}
    run_demo(tmp_path / "demo", "--iterations", "10", "--device", "cpu")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").rglob("*.nii.gz")}
    refused = CliRunner().invoke(app, ["demo", str(tmp_path / "demo"), "--iterations", "11"])
    assert refused.exit_code == 2
    assert "demo: the demo there was made with iterations 10, not 11" in refused.stderr


@pytest.mark.slow
def test_a_demo_restarts_with_other_settings(tmp_path):
    for more in (["10"], ["11", "--seed", "1", "--overwrite"]):
        run_demo(tmp_path / "demo", "--device", "cpu", "--iterations", *more)
    training = json.loads((tmp_path / "demo" / "runs" / "ddpm-mask" / "config.json").read_text())["training"]
    assert (training["iterations"], training["seed"]) == (11, 1)


@pytest.mark.slow
def test_the_demo_in_full_is_as_good_as_it_says(tmp_path):
    run_demo(tmp_path / "demo", "--device", "cpu")
    drawn = {}
    for kind in ("tissues", "body"):
        file = tmp_path / "demo" / "synthetic" / f"from_{kind}" / "scores.json"
        drawn[kind] = metrics = json.loads(file.read_text(encoding="utf-8"))["metrics"]
        assert metrics["psnr"]["total"]["value"] >= {"tissues": 23.5, "body": 17.8}[kind]
        assert metrics["ssim"]["total"]["value"] >= {"tissues": 0.72, "body": 0.48}[kind]
        assert 0.8 <= metrics["gradient"]["total"]["value"] <= 1.25
    tissues, body = (drawn[kind]["psnr_body"]["total"]["value"] for kind in ("tissues", "body"))
    assert tissues >= body + 4
    metrics = drawn["tissues"]
    organs = metrics["hu"]["per_organ"]
    for organ in ("liver", "spleen", "kidney_right", "kidney_left", "aorta", "urinary_bladder"):
        assert abs(organs[organ]["value"]) <= 25, organ
    real, synthetic = neighbor_difference(tmp_path / "demo")
    assert 0.6 <= synthetic / real <= 1.3


def html_of(page):
    return page.read_text(encoding="utf-8")


def neighbor_difference(demo):
    """Mean absolute difference of neighboring slices of the test subjects: real and synthetic."""
    store, differences = Store.open(demo / "store"), []
    for subject in store.subjects("test"):
        volume = Volume.load(demo / "synthetic" / "from_tissues" / f"{subject.name}.nii.gz")
        pair = (subject.ct(), to_slices(volume.voxels, store.size, "ct"))
        differences.append([np.abs(np.diff(slices.astype(float), axis=0)).mean() for slices in pair])
    return np.mean(differences, axis=0)
