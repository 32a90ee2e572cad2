"""Python: what ``ctsynth.load`` draws is what the command draws, and what cannot be meant is a ValueError."""

import json
import subprocess
import sys

import numpy as np
import pytest
from small_cases import make_small_case
from small_runs import ctsynth as command
from small_runs import fit, labels_like
from small_stores import both_splits

import ctsynth
from ctsynth.data.slices import unstack
from ctsynth.data.volume import Volume


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("api")
    store = both_splits(root / "out", make_small_case)
    fit(store, root / "runs" / "one", lr=3e-2, ema=0.1)
    return root


@pytest.fixture(scope="module")
def model(root):
    return ctsynth.load(root / "runs" / "one", device="cpu")


@pytest.fixture
def labels(small_case):
    return np.ascontiguousarray(unstack(labels_like(small_case(3))))  # (6, 24, 32)


def test_importing_loads_nothing_heavy():
    code = "import sys, ctsynth; ctsynth.__all__; print({'torch', 'numpy', 'nibabel', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert {"load", "Model", "preprocess", "score", "report"} <= set(dir(ctsynth))
    with pytest.raises(AttributeError, match="no attribute 'sample'"):
        ctsynth.sample  # noqa: B018


def test_model_draw_equals_the_sample_command(root, model, labels, small_case, write_nifti, tmp_path):
    case = small_case(3)
    write_nifti(tmp_path / "seg.nii.gz", labels_like(case), case.affine)
    done = command(
        "sample", "--mask", tmp_path / "seg.nii.gz", "--model", root / "runs" / "one", "--device", "cpu"
    )
    assert done.exit_code == 0, done.stderr
    theirs = unstack(Volume.load(tmp_path / "seg_synthetic.nii.gz").voxels)
    hu = model.draw(labels, spacing=5.0, seed=0, name="seg")
    assert hu.dtype == np.int16
    assert hu.flags.writeable
    np.testing.assert_array_equal(hu, theirs)


@pytest.mark.parametrize("shape", [(16, 16), (24, 32), (3, 50, 41), (1, 16, 16)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_the_shape_is_that_of_the_labels_and_the_hu_are_the_windows(model, shape, dtype):
    labels = np.full(shape, 16, dtype)
    labels[..., :4] = 0
    hu = model.draw(labels, steps=1)
    assert hu.shape == shape
    assert hu.dtype == np.int16
    assert model.window == (-160, 240)
    assert hu.min() >= -160
    assert hu.max() <= 240


def test_seed_and_spacing_count_and_nothing_else(model, labels):
    first = model.draw(labels, steps=2)
    np.testing.assert_array_equal(model.draw(labels.tolist(), steps=2, seed=0, spacing=5), first)
    assert (model.draw(labels, steps=2, seed=1) != first).any()
    assert (model.draw(labels, steps=2, spacing=1) != first).any()
    np.testing.assert_allclose(model.draw(labels, steps=2, batch_size=3), first, atol=1)


def test_air_is_outside_the_patient(model, labels):
    hu = model.draw(labels, steps=1, outside="air")
    np.testing.assert_array_equal(hu == -1000, labels == 0)


def test_a_model_names_its_classes(model):
    assert model.labels[6] == "liver"
    assert model.labels[16] == "body"
    assert model.size == 16
    assert repr(model).startswith("<ddpm-concat, 16 x 16, 16 classes, ")


REFUSED = {
    "one axis": ({"labels": np.zeros(5, int)}, r"labels have the shape \(5,\): give \(slices, rows, columns\)"),
    "nothing": ({"labels": np.zeros((0, 4, 4), int)}, r"labels have the shape \(0, 4, 4\)"),
    "floats": ({"labels": np.full((4, 4), 16.0)}, r"labels are float64: give whole numbers: labels\.astype"),
    "words": ({"labels": np.full((4, 4), "liver")}, "labels are <U5: give whole numbers"),
    "a label": ({"labels": np.full((4, 4), 99)}, "labels hold 99: give 0 for background and the model's 1 spleen"),
    "negative": ({"labels": np.full((4, 4), -1)}, "labels hold -1: give 0"),
    "no body": ({"labels": np.full((4, 4), 6)}, "labels have no body, which is 16: set it where the patient is"),
    "spacing": ({"spacing": 0}, "spacing is 0: give a number above 0, mm between slices"),
    "seed": ({"seed": -1}, "seed is -1: give a whole number from 0"),
    "sampler": ({"sampler": "plms"}, "plms"),
    "steps": ({"steps": 1001}, "1001 is more than the 1000"),
    "outside": ({"outside": "water"}, "outside is 'water': give 'window' or 'air'"),
    "preset": ({"preset": "slow"}, "preset is 'slow': give 'fast' or 'paper'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_arguments_are_a_value_error_with_the_remedy(model, case):
    words, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        model.draw(**({"labels": np.full((4, 4), 16)} | words))


def test_no_model_is_a_value_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no run with a checkpoint in runs/; train one first: ctsynth train"):
        ctsynth.load()
    with pytest.raises(ValueError, match="nowhere: no such run or checkpoint"):
        ctsynth.load("nowhere")


def test_the_commands_are_functions(small_amos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = small_amos()
    summary = ctsynth.preprocess(source, "store", size=32)
    printed = command("preprocess", source, "store", "--size", 32, "--workers", 1, "--json")
    assert json.loads(printed.stdout) | {"made": 4, "kept": 0} == summary
    (tmp_path / "synthetic").mkdir()
    for image in sorted((source / "imagesVa").glob("amos_01*")):
        (tmp_path / "synthetic" / image.name).write_bytes(image.read_bytes())
    scores = ctsynth.score("synthetic", "store", metrics=["psnr", "ssim"])
    written = json.loads((tmp_path / "synthetic" / "scores.json").read_text())
    assert {**scores, "sources": written["sources"]} == written
    assert {"psnr", "ssim"} <= set(scores["metrics"])
    page = ctsynth.report("synthetic", "page")
    assert "<html" in page.read_text()
    with pytest.raises(ValueError, match="no metric is called 'beauty'"):
        ctsynth.score("synthetic", "store", metrics=["beauty"], out="other.json")
    with pytest.raises(ValueError, match="nowhere"):
        ctsynth.report("nowhere", "page")
    with pytest.raises(ValueError, match=r"`size` is 4, wanted a whole number within \[8, 4,096\]"):
        ctsynth.preprocess(source, "other", size=4)
