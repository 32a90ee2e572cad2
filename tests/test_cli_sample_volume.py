"""``ctsynth sample`` with a method that draws the slices of a volume together."""

import json

import nibabel as nib
import numpy as np
import pytest
from small_cases import make_small_case
from small_runs import ctsynth, fit, labels_like
from small_stores import both_splits


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of edm-volume, whose window is 2, and one of edm."""
    root = tmp_path_factory.mktemp("trained")
    store = both_splits(root / "out", make_small_case)
    for method in ("edm-volume", "edm"):
        fit(store, root / method, method, lr=3e-2, ema=0.1)
    return root


@pytest.fixture
def folder(runs, tmp_path, small_case, write_nifti, monkeypatch):
    case = small_case(3)
    write_nifti(tmp_path / "seg.nii.gz", labels_like(case), case.affine)
    write_nifti(tmp_path / "ct.nii.gz", case.hu, case.affine)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sampled(runs, out, *words, method="edm-volume"):
    words = ["--mask", "seg.nii.gz", "--model", runs / method, "--out", out, "--device", "cpu", *words]
    done = ctsynth("sample", "--steps", 3, *words)
    assert done.exit_code == 0, done.stderr
    return np.asarray(nib.load(out).dataobj)


def refused(runs, *words, method="edm-volume"):
    done = ctsynth("sample", "--mask", "seg.nii.gz", "--model", runs / method, "--device", "cpu", *words)
    assert done.exit_code == 2, done.stderr
    return done.stderr


def test_ten_evaluations_and_white_noise_are_the_default(runs, folder):
    done = ctsynth("sample", "--mask", "seg.nii.gz", "--model", runs / "edm-volume", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    record = json.loads((folder / "seg_synthetic.json").read_text())
    assert record["sampler"]["name"] == "dpm++"
    assert record["sampler"]["steps"] == 10
    assert (record["noise"], record["chunk"]) == ("slice", 128)
    assert "given" not in record


def test_a_batch_changes_no_bit_and_a_chunk_belongs_to_the_record(runs, folder):
    whole = sampled(runs, "whole.nii.gz")
    assert np.array_equal(whole, sampled(runs, "batch.nii.gz", "--batch-size", 3))
    chunked = sampled(runs, "chunked.nii.gz", "--chunk", 4)
    assert chunked.shape == whole.shape
    assert json.loads((folder / "chunked.json").read_text())["chunk"] == 4
    assert "drawn with chunk 4, not 3" in refused(runs, "--out", "chunked.nii.gz", "--steps", 3, "--chunk", 3)


def test_given_slices_are_kept_and_the_others_drawn(runs, folder):
    words = ["--given", "ct.nii.gz", "--given-slices"]
    around = sampled(runs, "around.nii.gz", *words, "0:2, 4")
    real = np.clip(np.asarray(nib.load("ct.nii.gz").dataobj), -160, 240)
    for place in range(6):
        resized = np.abs(around[..., place] - real[..., place]).mean()  # to 16 x 16 pixels and back
        assert (resized < 30) == (place in (0, 1, 4)), place
    record = json.loads((folder / "around.json").read_text())
    assert record["given_slices"] == "0:2, 4"
    assert record["given"] == "ct.nii.gz"
    told = refused(runs, "--out", "around.nii.gz", "--steps", 3, *words, "0:3")
    assert "drawn with given_slices 0:2, 4, not 0:3" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--noise", "volume"], "edm-volume does not take --noise volume"),
        (["--chunk", 1], "--chunk 1: wanted at least 2, the model's window"),
        (["--sampler", "ddim"], "edm-volume does not take the sampler 'ddim'"),
        (["--guidance", 2], "needs a model trained with label dropout"),
        (["--given", "ct.nii.gz"], "--given and --given-slices go together"),
        (["--given", "none.nii.gz", "--given-slices", "1"], "none.nii.gz: no such file"),
        (["--given", "ct.nii.gz", "--given-slices", "2:x"], "'2:x' is no range of slices"),
        (["--given", "ct.nii.gz", "--given-slices", "3:3"], "--given-slices 3:3: no slices"),
        (["--given", "ct.nii.gz", "--given-slices", "4:9"], "ct.nii.gz has no slice 6, it has 6"),
        (["--given", "seg.nii.gz", "--given-slices", "1"], "in HU some would be below"),
    ],
)
def test_invalid_arguments_are_refused(runs, folder, words, message):
    assert message in refused(runs, *words)


def test_a_slice_model_draws_no_chunks_and_no_given_slices(runs, folder):
    assert "edm draws slice by slice" in refused(runs, "--chunk", 4, method="edm")
    given = ["--given", "ct.nii.gz", "--given-slices", "1"]
    assert "edm draws slice by slice: it takes no --given" in refused(runs, *given, method="edm")


def test_a_slice_model_takes_both_noises(runs, folder):
    apart = sampled(runs, "apart.nii.gz", "--noise", "slice", method="edm")
    alike = sampled(runs, "alike.nii.gz", method="edm")
    assert not np.array_equal(apart, alike)
    assert json.loads((folder / "alike.json").read_text())["noise"] == "volume"
