"""A window that is not the paper's holds from preprocess to volume and score."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_runs import CPU, ctsynth, settings

from ctsynth.data.loader import SliceDataset
from ctsynth.data.slices import unstack
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.methods._diffusion import DiffusionMethod

OFF = 35  # HU, of every synthetic voxel


@pytest.fixture(params=[(50, 350), (-600, 1500)], ids=lambda window: f"level {window[0]} width {window[1]}")
def window(request):
    return request.param


@pytest.fixture
def store(tmp_path, monkeypatch, small_amos, window):
    monkeypatch.chdir(tmp_path)
    words = ["--level", window[0], "--width", window[1], "--size", 32, "--test-subjects", 1, "--workers", 1]
    done = ctsynth("preprocess", small_amos(train=1, test=1), "out", *words)
    assert done.exit_code == 0, done.stderr
    return Store.open(tmp_path / "out")


def test_slices_are_cut_to_it_and_trained_on_from_end_to_end(store, window):
    low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    raw = Volume.load(store.root.parent / "amos" / "imagesTr" / "amos_0001.nii.gz").voxels
    (subject,) = store.subjects("train")
    ct = np.asarray(subject.ct())
    assert (ct.min(), ct.max()) == (max(low, -1024), min(high, raw.max()))  # beside the patient is air
    image = SliceDataset(store, "train").batch(range(len(ct)), CPU).image
    torch.testing.assert_close(image[:, 0], torch.from_numpy((ct - low) / (high - low) * 2 - 1).float())


def test_a_volume_35_hu_off_is_drawn_and_scored_so(store, window, monkeypatch):
    """The closed form: PSNR is 20 log10(width / 35) in every slice, and each organ 35 HU off."""
    done = ctsynth("train", *settings(iterations=1, **{"save-every": 1}))
    assert done.exit_code == 0, done.stderr
    (subject,) = store.subjects("test")
    real = np.asarray(subject.ct()).astype(np.float64)

    def off(self, labels, **_):
        unit = (real + OFF - (window[0] - window[1] / 2)) / window[1]
        every = np.pad(2 * unit - 1, [(0, len(labels) - len(unit)), (0, 0), (0, 0)], mode="edge")
        return torch.from_numpy(every)[:, None].float()

    monkeypatch.setattr(DiffusionMethod, "generate", off)
    done = ctsynth("sample", "--data", "out", "--out", "drawn", "--device", "cpu", "--batch-size", 8)
    assert done.exit_code == 0, done.stderr
    drawn = Volume.load(store.root.parent / "drawn" / f"{subject.name}.nii.gz")
    np.testing.assert_array_equal(unstack(drawn.voxels), real + OFF)
    record = json.loads((store.root.parent / "drawn" / f"{subject.name}.json").read_text())
    assert record["window"] == {"level": window[0], "width": window[1]}
    content = scores("drawn")
    assert content["settings"]["window"] == {"level": window[0], "width": window[1]}
    assert content["metrics"]["psnr"]["total"]["value"] == pytest.approx(20 * np.log10(window[1] / OFF))
    for organ in content["metrics"]["hu"]["per_organ"].values():
        assert organ["value"] in (None, pytest.approx(OFF, abs=1e-3))


def test_the_real_volume_on_its_own_grid_has_no_error(store, tmp_path):
    """Neither where its slices are not square and air was put beside them."""
    (subject,) = store.subjects("test")
    (tmp_path / "real").mkdir()
    shutil.copy(tmp_path / "amos" / "imagesVa" / f"{subject.name}.nii.gz", tmp_path / "real")
    psnr, hu = (scores("real")["metrics"][name] for name in ("psnr", "hu"))
    assert psnr["per_slice"][subject.name] == [None] * subject.slices
    assert {organ["value"] for organ in hu["per_organ"].values()} <= {None, 0.0}


def scores(folder):
    done = ctsynth("score", folder, "--data", "out", "--metrics", "psnr,hu", "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)
