"""A run of ``ctsynth train-segmenter`` finds the organs for the Dice, and is called what it is."""

import dataclasses
import html
import json
import shutil

import numpy as np
import pytest
from small_cases import make_small_case
from small_runs import CPU, SMALL, ctsynth, fit
from small_stores import both_splits, write_synthetic

from ctsynth.data.slices import from_slices, stack, stacked_geometry, to_slices
from ctsynth.data.store import Store
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.errors import DataError, UsageError
from ctsynth.labels import AMOS22, LabelSet
from ctsynth.segmentation.find import find_segmenter
from ctsynth.segmentation.masks import MaskFolder
from ctsynth.segmentation.trained import TrainedSegmenter
from ctsynth.training import checkpoint

SIZE = 32


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A store, a segmenter's run and a method's, synthetic volumes."""
    root = tmp_path_factory.mktemp("segmenter")
    store = both_splits(root / "out", make_small_case, size=SIZE)
    fit(store, root / "runs" / "ddpm-concat", iterations=2)
    fit(store, root / "runs" / "seg", "unet2d", iterations=4)
    write_synthetic(root / "samples", store)
    return root


@pytest.fixture
def store(root):
    return Store.open(root / "out")


def stacked(store):
    (subject,) = store.subjects("test")
    return Volume(stack(np.asarray(subject.ct())), stacked_geometry(subject.geometry, store.size))


def test_a_folder_with_config_json_is_a_run_and_one_with_masks_is_masks(root, store, write_nifti):
    assert isinstance(find_segmenter(str(root / "runs" / "seg"), device="cpu", store=store), TrainedSegmenter)
    one = checkpoint.saved(root / "runs" / "seg")[0]
    assert find_segmenter(str(one), device="cpu").name == "2-D U-Net of run seg"
    write_nifti(root / "masks" / "subject_t.nii.gz", np.zeros((2, 2, 2), np.uint8), np.eye(4))
    assert isinstance(find_segmenter(str(root / "masks"), device="cpu", store=store), MaskFolder)
    (root / "empty").mkdir(exist_ok=True)
    with pytest.raises(UsageError, match=r"empty: neither a training run \(config.json\) nor masks"):
        find_segmenter(str(root / "empty"))


def test_a_methods_run_finds_no_organs_and_a_segmenters_draws_no_slices(root):
    with pytest.raises(UsageError, match="a run of ddpm-concat, which draws slices and finds no organs"):
        find_segmenter(str(root / "runs" / "ddpm-concat"))
    with pytest.raises(UsageError, match="unet2d is a segmenter: it finds organs and draws no slices"):
        checkpoint.load(checkpoint.find(root / "runs" / "seg"), CPU)


def test_the_newest_run_is_never_a_segmenters(root):
    (root / "runs" / "seg" / "latest").touch()
    assert checkpoint.find(None, root / "runs").parents[1].name == "ddpm-concat"


def test_masks_are_the_argmax_on_the_volumes_own_grid(root, store):
    segmenter, volume = find_segmenter(str(root / "runs" / "seg"), device="cpu"), stacked(store)
    found = segmenter.segment(volume, AMOS22, "subject_t")
    assert found.voxels.shape == volume.voxels.shape
    assert found.classes == frozenset(range(1, 16))
    hu = to_slices(volume.voxels, SIZE, "ct")
    np.testing.assert_array_equal(stack(segmenter._find(hu)), found.voxels)


def test_a_volume_on_another_grid_is_cut_into_slices_and_brought_back(root, store):
    segmenter, case = find_segmenter(str(root / "runs" / "seg"), device="cpu"), make_small_case(7)
    volume = Volume(case.hu.repeat(2, axis=0).repeat(2, axis=1), Geometry((64, 48, 6), case.affine))
    found = segmenter.segment(volume, AMOS22, "a").voxels
    slices = segmenter._find(to_slices(Window().clip(volume.voxels), SIZE, "ct"))
    np.testing.assert_array_equal(found, from_slices(slices, volume.geometry, "labels"))


OTHER = LabelSet("other", AMOS22.classes[:3])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": OTHER}, "its label set is other; 2-D U-Net of run seg was trained on amos22"),
        ({"labels": LabelSet("amos22", AMOS22.classes[:3])}, "its label set is amos22, of other classes"),
        ({"size": 64}, "its side of a slice is 64; .* on 32"),
        ({"window": Window(50, 350)}, r"its window is level 50 width 350; .* on level 40 width 400"),
    ],
)
def test_a_store_of_other_slices_is_refused(root, store, changed, message):
    with pytest.raises(DataError, match=message) as refused:
        find_segmenter(str(root / "runs" / "seg"), device="cpu", store=dataclasses.replace(store, **changed))
    assert "ctsynth train-segmenter" in refused.value.hint


def score(root, segmenter, out="samples/scores.json"):
    done = ctsynth(
        "score", root / "samples", "--data", root / "out", "--metrics", "dice", "--segmenter", segmenter,
        "--device", "cpu", "--out", root / out,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return done, json.loads((root / out).read_text())


def test_scores_and_their_table_call_it_by_its_own_name(root):
    done, scores = score(root, root / "runs" / "seg")
    settings = scores["metrics"]["dice"]["settings"]
    path = checkpoint.find(root / "runs" / "seg")
    assert settings["segmenter"] == "2-D U-Net of run seg"
    assert settings["checkpoint"] == "step_000000004"
    assert settings["weights"] == checkpoint.sha256(path / "ema.safetensors")
    assert "dice: segmenter: 2-D U-Net of run seg; the paper's is TotalSegmentator" in done.stderr
    assert "TotalSegmentator" not in json.dumps(settings)
    assert {"dice", "dice_hd95", "dice_nsd"} <= set(scores["ceiling"]["values"])
    page = ctsynth("report", root / "samples", "--out", root / "page")
    assert page.exit_code == 0, page.stderr
    shown = html.unescape((root / "page" / "index.html").read_text())
    assert "DSC with 2-D U-Net of run seg, the paper's with TotalSegmentator" in shown


def test_masks_of_another_checkpoint_are_made_again(root):
    run = root / "more"
    shutil.copytree(root / "runs" / "seg", run)
    kept = root / "out" / "segmentations" / "subject_t.json"
    keys = []
    for steps in (4, 4, 6):
        fit(Store.open(root / "out"), run, "unet2d", iterations=steps)
        score(root, run, f"after_{steps}.json")
        keys.append(json.loads(kept.read_text())["key"])
    assert keys[0] == keys[1] != keys[2]


def test_train_segmenter_prints_its_folder_and_continues(root, monkeypatch):
    monkeypatch.chdir(root)
    small = [word for key, value in SMALL["unet2d"].items() for word in ("--set", f"{key}={value}")]
    words = ["train-segmenter", "out", "--preset", "default", *small, "--batch-size", 4, "--device", "cpu"]
    done = ctsynth(*words, "--iterations", 2)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "runs/segmenter\n"
    assert (root / "runs" / "segmenter" / "samples" / "step_000000002.png").is_file()
    assert "continuing runs/segmenter at step 2" in ctsynth(*words, "--iterations", 3).stderr
    config = json.loads((root / "runs" / "segmenter" / "config.json").read_text())
    assert (config["method"], config["training"]["lr_schedule"]) == ("unet2d", "cosine")


def test_a_segmenter_is_no_method_of_train(root, monkeypatch):
    monkeypatch.chdir(root)
    done = ctsynth("train", "--method", "unet2d")
    assert done.exit_code == 2
    assert "no method is called 'unet2d'" in done.stderr
    assert "unet2d" not in ctsynth("slurm").stdout
