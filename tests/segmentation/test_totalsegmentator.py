"""TotalSegmentator and nnU-Net themselves, offline, on stand-in weights that know one real CT: no medical tool.

They need the package (extra ``totalsegmentator``) and the two folders beside the checkout, and skip without.
"""

import importlib
import importlib.util
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  its own way
from measured_metrics import MeasuredMetric
from scipy.ndimage import gaussian_filter

from ctsynth.data.originals import Original
from ctsynth.data.preprocess import preprocess
from ctsynth.data.settings import Settings
from ctsynth.data.slices import from_slices, stacked_geometry
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError
from ctsynth.label_files import label_set
from ctsynth.metrics.base import Pair
from ctsynth.metrics.dice import Dice
from ctsynth.scoring.pairs import read_pair
from ctsynth.segmentation.cached import CachedSegmenter
from ctsynth.segmentation.totalsegmentator import TotalSegmentator

pytestmark = pytest.mark.totalsegmentator

CASE = "ts_example_0001"


class Remembering(TotalSegmentator):
    """Keeps what it found last."""

    def segment(self, volume, labels, subject):
        self.last = super().segment(volume, labels, subject)
        return self.last


@pytest.fixture(scope="module")
def segmenter():
    """One for all tests, so that its model is loaded once; without a network, and without a home."""
    weights = Path(__file__).resolve().parents[3] / "shared" / "totalseg_standin"
    if importlib.util.find_spec("totalsegmentator") is None:
        pytest.skip("TotalSegmentator is not installed: pip install '.[totalsegmentator]'")
    if not weights.is_dir():
        pytest.skip(f"no stand-in weights in {weights}")

    connect = socket.socket.connect

    def refuse(self, address):
        assert self.family == socket.AF_UNIX, f"the network was asked for: {address}"
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOTALSEG_WEIGHTS_PATH", str(weights))
        patch.setenv("TOTALSEG_HOME_DIR", "/nonexistent")
        patch.setattr(socket.socket, "connect", refuse)
        yield Remembering("fast", "cpu")


@pytest.fixture(scope="module")
def store(real_ct, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    preprocess(real_ct, root, settings=Settings(size=256), workers=1)
    return Store.open(root)


def volumes(real):
    """Slices in [0, 1] as different methods might draw them."""
    rng = np.random.default_rng(0)
    blurred = gaussian_filter(real, (1, 256 / 122, 256 / 122))  # a voxel of the source
    return {
        "real": real,
        "blurred and noisy": np.clip(blurred + rng.normal(0, 40 / 400, real.shape), 0, 1).astype(np.float32),
        "random": rng.random(real.shape, np.float32),
    }


@pytest.fixture(scope="module")
def native(store, segmenter, real_ct, tmp_path_factory):
    """Dice of each volume on the source's grid, after the way through the store and back."""
    subject = store.subjects_by_name[CASE]
    folder = tmp_path_factory.mktemp("native")
    labels = real_ct / "labelsTr" / f"{CASE}.nii.gz"
    results = {}
    for kind, unit in volumes(store.window.normalize(subject.ct())).items():
        file = folder / f"{kind}.nii.gz"
        hu = np.rint(store.window.denormalize(unit)).astype(np.int16)
        Volume(from_slices(hu, subject.geometry, "ct"), subject.geometry).save(file)
        metric = Dice(segmenter, native={CASE: Original(subject.geometry, labels, file)})
        results[kind] = MeasuredMetric(metric, read_pair(subject, file, store)).result()
        results[f"{kind} masks"] = segmenter.last.voxels
    return results


def test_the_windowed_volume_is_segmented_as_the_stand_in_can(native):
    assert native["real"].total.n == 12
    assert native["real"].total.value == pytest.approx(89, abs=3)
    assert native["real"].per_organ["liver"].value > 95


def test_real_is_better_than_blurred_and_noisy_and_that_than_random(native):
    real, blurred, noise = (native[kind].total.value for kind in ("real", "blurred and noisy", "random"))
    assert real > blurred + 2
    assert blurred > noise + 50
    assert native["real"].variants["hd95"].total.value < native["random"].variants["hd95"].total.value / 10


def test_organs_that_the_case_does_not_show_are_counted(native):
    assert not {"esophagus", "urinary_bladder", "prostate"} & set(native["real"].per_organ)
    assert any("esophagus 1, urinary_bladder 1, prostate 1" in note for note in native["real"].notes)


def test_dice_is_that_of_simpleitk(native, real_ct):
    reference = Volume.load(real_ct / "labelsTr" / f"{CASE}.nii.gz").voxels.astype(np.uint8)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(reference), sitk.GetImageFromArray(native["real masks"]))
    ours = native["real"].per_organ
    assert len(ours) == 12
    for number, name in {1: "spleen", 6: "liver", 10: "pancreas", 12: "adrenal_gland_left"}.items():
        assert ours[name].value / 100 == pytest.approx(measure.GetDiceCoefficient(number), abs=1e-6)


def test_the_ceiling_of_the_stores_own_grid(store, segmenter, tmp_path):
    """Lower than on the source's grid by what a 1.4 mm label map loses in the stand-in's 3 mm voxels."""
    subject = store.subjects_by_name[CASE]
    unit = store.window.normalize(subject.ct())
    geometry = stacked_geometry(subject.geometry, store.size)
    kept = CachedSegmenter(segmenter, tmp_path)  # the synthetic volume is the real one here: it is segmented once
    metric = Dice(kept, kept)
    mask = np.asarray(subject.mask())
    one = MeasuredMetric(metric, Pair(CASE, unit, unit, mask, store.labels, store.window, geometry))
    assert one.ceiling().total.value == pytest.approx(88, abs=3)
    assert one.result().total == one.ceiling().total


def test_a_volume_in_0_to_1_is_refused_where_the_stand_in_would_not_notice(store, segmenter, real_ct, tmp_path):
    subject = store.subjects_by_name[CASE]
    hu = Volume.load(real_ct / "imagesTr" / f"{CASE}.nii.gz")
    file = tmp_path / f"{CASE}.nii.gz"
    Volume(store.window.normalize(hu.voxels), hu.geometry).save(file)
    with pytest.raises(DataError, match=r"within \[0, 1\], which cannot be HU"):
        read_pair(subject, file, store)
    with pytest.raises(DataError, match=r"within \[0, 1\], which cannot be HU"):
        segmenter.segment(Volume.load(file), store.labels, CASE)


def test_models_are_loaded_once_and_nothing_is_left_behind(native, store, segmenter, real_ct, monkeypatch, capfd):
    torch = importlib.import_module("torch")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a model was loaded again"))
    threads, environment = torch.get_num_threads(), dict(os.environ)
    small = Volume.load(real_ct / "imagesTr" / f"{CASE}.nii.gz")
    segmenter.segment(Volume(small.voxels, small.geometry), store.labels, CASE)
    assert torch.get_num_threads() == threads
    assert {name: value for name, value in os.environ.items() if not name.startswith("nnUNet")} == {
        name: value for name, value in environment.items() if not name.startswith("nnUNet")
    }
    assert not Path("/nonexistent").exists()
    assert capfd.readouterr().out == ""


def test_the_names_of_its_classes_are_those_of_our_set():
    names = pytest.importorskip("totalsegmentator.map_to_binary").class_map["total"]
    assert names == {organ.id: organ.name for organ in label_set("totalsegmentator").classes}


def test_the_weights_and_versions_stand_beside_the_number(native):
    settings = native["real"].settings
    assert (settings["segmenter"], settings["mode"], settings["device"]) == ("TotalSegmentator", "fast", "cpu")
    assert settings["weights"]["Dataset297_TotalSegmentator_total_3mm_1559subj"].startswith("2c12a913")
    assert "nnunetv2" in settings["version"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow  # nnU-Net's spawned processes import it again, twice
def test_masks_are_those_of_totalsegmentators_own_function(segmenter, real_ct, tmp_path, monkeypatch):
    nib, api = importlib.import_module("nibabel"), importlib.import_module("totalsegmentator.python_api")
    volume = Volume.load(real_ct / "imagesTr" / f"{CASE}.nii.gz")
    hu = np.clip(volume.voxels, -160, 240).astype(np.int16)
    ours = segmenter.segment(Volume(hu, volume.geometry), label_set("totalsegmentator"), CASE).voxels
    (tmp_path / "config.json").write_text(
        '{"totalseg_id": "x", "send_usage_stats": false, "prediction_counter": 0}'
    )
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path))
    image = nib.Nifti1Image(hu, volume.geometry.affine)
    theirs = api.totalsegmentator(image, None, ml=True, fast=True, device="cpu", nr_thr_saving=1, quiet=True)
    np.testing.assert_array_equal(ours, np.asanyarray(theirs.dataobj))
