import importlib.util
import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError, UsageError
from ctsynth.files import sha256
from ctsynth.label_files import label_set
from ctsynth.labels import AMOS22
from ctsynth.segmentation.base import Segmentation
from ctsynth.segmentation.cached import CachedSegmenter
from ctsynth.segmentation.find import find_segmenter
from ctsynth.segmentation.masks import MaskFolder
from ctsynth.segmentation.totalsegmentator import TotalSegmentator

TOTAL = label_set("totalsegmentator")
SHAPE = (6, 5, 4)
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
VOLUME = Volume(np.full(SHAPE, -160, np.int16), Geometry(SHAPE, AFFINE))
OWN = np.random.default_rng(0).integers(0, 17, SHAPE, np.uint8)
"""In AMOS22's ids."""

CARET = """<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0"><LabelTable>{}
</LabelTable></VolumeInformation></CaretExtension>"""


def in_total(mask):
    """AMOS22's ids as TotalSegmentator's, by name; body as a bone that AMOS22 has no class for."""
    number = {organ.name: organ.id for organ in TOTAL.classes}
    table = np.zeros(17, np.uint8)
    for organ in AMOS22.classes:
        table[organ.id] = number[organ.dice]
    table[AMOS22.body_id] = number["vertebrae_L1"]
    return table[mask]


def write_named(path, mask, names):
    """A mask with its names in the header, as TotalSegmentator writes it with ``--ml``."""
    image = nib.Nifti1Image(mask, AFFINE)
    image.header.set_xyzt_units("mm")
    labels = "".join(f'<Label Key="{n}"><![CDATA[{name}]]></Label>' for n, name in names.items())
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, CARET.format(labels).encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def test_masks_with_named_labels_are_mapped_by_name(tmp_path):
    write_named(tmp_path / "a.nii.gz", in_total(OWN), {organ.id: organ.name for organ in TOTAL.classes})
    found = MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a")
    np.testing.assert_array_equal(found.voxels, OWN)
    assert found.classes == frozenset(range(1, 16))


def test_the_names_count_and_not_the_numbers(tmp_path):
    shuffled = {n: TOTAL.classes[-n].name for n in range(1, len(TOTAL.classes) + 1)}
    number = {name: n for n, name in shuffled.items()}
    mask = np.zeros(SHAPE, np.uint8)
    mask[0], mask[1] = number["kidney_left"], number["kidney_right"]
    write_named(tmp_path / "a_synthetic.nii.gz", mask, shuffled)
    found = MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a").voxels
    assert (found[0] == 3).all()
    assert (found[1] == 2).all()


def test_organs_that_were_not_segmented_are_not_among_the_classes(tmp_path):
    write_named(tmp_path / "a.nii.gz", np.where(OWN == 6, 5, 0).astype(np.uint8), {5: "liver"})
    assert MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a").classes == frozenset({6})


def test_masks_without_names_are_of_the_stores_own_set_or_of_the_one_that_is_named(tmp_path, write_nifti):
    write_nifti(tmp_path / "own" / "a.nii.gz", OWN, AFFINE, "LPS")
    np.testing.assert_array_equal(MaskFolder(tmp_path / "own").segment(VOLUME, AMOS22, "a").voxels, OWN)
    write_nifti(tmp_path / "total" / "a.nii.gz", in_total(OWN), AFFINE, "PIR")
    named = MaskFolder(tmp_path / "total", TOTAL)
    np.testing.assert_array_equal(named.segment(VOLUME, AMOS22, "a").voxels, OWN)
    with pytest.raises(DataError, match=r"a\.nii\.gz: holds \d+, .*; amos22 has 0 to 16"):
        MaskFolder(tmp_path / "total").segment(VOLUME, AMOS22, "a")


def test_label_names_come_from_the_dataset_json_beside_nnunets_predictions(tmp_path, write_nifti):
    theirs = np.select([OWN == 6, OWN == 1], [1, 2], 0).astype(np.uint8)
    write_nifti(tmp_path / "a.nii.gz", theirs, AFFINE)
    before = MaskFolder(tmp_path).settings
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "Liver": 1, "spleen": 2}}')
    found = MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a")
    np.testing.assert_array_equal(found.voxels, np.where(np.isin(OWN, (1, 6)), OWN, 0))
    assert found.classes == frozenset({1, 6})
    assert MaskFolder(tmp_path).settings["masks_sha256"] != before["masks_sha256"]


def test_a_folder_with_a_file_for_each_organ(tmp_path, write_nifti):
    for name, label in (("liver", 6), ("spleen", 1), ("vertebrae_L1", 16)):
        write_nifti(tmp_path / "a" / f"{name}.nii.gz", (label == OWN).astype(np.uint8), AFFINE)
    found = MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a")
    np.testing.assert_array_equal(found.voxels, np.where(np.isin(OWN, (1, 6)), OWN, 0))
    assert found.classes == frozenset({1, 6})


def test_masks_on_another_grid_are_refused_with_what_to_do(tmp_path, write_nifti):
    moved = AFFINE.copy()
    moved[0, 3] = 1  # half a voxel
    write_nifti(tmp_path / "a.nii.gz", OWN, moved)
    with pytest.raises(DataError, match=r"its grid is .* from \(1, 0, 0\), that of the volume") as error:
        MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a")
    assert "`native`" in error.value.hint


def test_a_missing_mask_is_named(tmp_path):
    with pytest.raises(DataError, match="no mask of a"):
        MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a")
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="no masks in it"):
        MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a")


class Counting:
    name, version = "counting", "1"

    def __init__(self):
        self.calls, self.settings = 0, {"mode": "fast"}

    def segment(self, volume, labels, subject):
        self.calls += 1
        return Segmentation(OWN, frozenset({1, 6}))


def test_masks_that_are_kept_are_not_made_again(tmp_path):
    segmenter = Counting()
    first = CachedSegmenter(segmenter, tmp_path).segment(VOLUME, AMOS22, "a")
    again = CachedSegmenter(segmenter, tmp_path).segment(VOLUME, AMOS22, "a")
    assert segmenter.calls == 1
    np.testing.assert_array_equal(again.voxels, first.voxels)
    assert again.classes == first.classes
    assert (MaskFolder(tmp_path).segment(VOLUME, AMOS22, "a").voxels == OWN).all()  # and others can read them


def test_kept_masks_of_another_volume_segmenter_or_label_set_are_made_again(tmp_path, own_code):
    segmenter = Counting()
    keep = CachedSegmenter(segmenter, tmp_path)
    other = VOLUME.voxels.copy()
    other[-1, -1, -1] += 1
    moved = Geometry(SHAPE, AFFINE @ np.diag([1, 1, 1.5, 1]))
    for calls, volume in enumerate(
        (VOLUME, Volume(other, VOLUME.geometry), Volume(VOLUME.voxels, moved)), start=1
    ):
        keep.segment(volume, AMOS22, "a")
        assert segmenter.calls == calls
    own_code("networks/segmentation_unet.py")
    keep.segment(VOLUME, AMOS22, "a")
    assert segmenter.calls == 4
    segmenter.settings = {"mode": "default"}
    keep.segment(VOLUME, AMOS22, "a")
    keep.segment(VOLUME, TOTAL, "a")
    assert segmenter.calls == 6


def record_of_strange_classes(folder):
    record = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps(record | {"classes": [1, "liver"]}))


def record_of_nested_classes(folder):
    record = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps(record | {"classes": [{}]}))


def mask_of_another_shape_and_its_hash(folder):
    mask_of_another_shape(folder)
    record = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps(record | {"volume_sha256": sha256(folder / "a.nii.gz")}))


def mask_that_is_cut_off(folder):
    (folder / "a.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:-9])


def what_was_broken_off(folder):
    record = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps(record | {"volume_sha256": None}))


@pytest.mark.parametrize(
    "damage",
    [
        record_of_strange_classes,
        record_of_nested_classes,
        mask_of_another_shape_and_its_hash,
        mask_that_is_cut_off,
        what_was_broken_off,
    ],
)
def test_a_kept_mask_that_is_damaged_is_made_again(tmp_path, damage, caplog):
    segmenter = Counting()
    CachedSegmenter(segmenter, tmp_path).segment(VOLUME, AMOS22, "a")
    damage(tmp_path)
    found = CachedSegmenter(segmenter, tmp_path).segment(VOLUME, AMOS22, "a")
    assert segmenter.calls == 2
    assert "a.nii.gz is damaged: made again" in caplog.text
    np.testing.assert_array_equal(found.voxels, OWN)
    assert json.loads((tmp_path / "a.json").read_text())["classes"] == [1, 6]


def record_that_is_no_json(folder):
    (folder / "a.json").write_text("[")


def no_record(folder):
    (folder / "a.json").unlink()


def mask_of_another_shape(folder):
    Volume(OWN[:1], Geometry(OWN[:1].shape, AFFINE)).save(folder / "a.nii.gz")


def mask_of_another_organ(folder):
    Volume(np.where(OWN == 6, 1, OWN).astype(np.uint8), VOLUME.geometry).save(folder / "a.nii.gz")


@pytest.mark.parametrize(
    "change", [record_that_is_no_json, no_record, mask_of_another_shape, mask_of_another_organ]
)
def test_a_users_mask_is_not_overwritten(tmp_path, change):
    """One drawn by hand, or one of ours that was corrected by hand."""
    CachedSegmenter(Counting(), tmp_path).segment(VOLUME, AMOS22, "a")
    change(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=r"a\.nii\.gz: not overwritten: a\.json does not say") as error:
        CachedSegmenter(Counting(), tmp_path).segment(VOLUME, AMOS22, "a")
    assert f"`segmenter` {tmp_path}" in error.value.hint
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_segmenter_is_found_by_name_or_folder(tmp_path):
    assert find_segmenter("totalsegmentator").mode == "default"
    assert find_segmenter("totalsegmentator-fast", device="cpu").mode == "fast"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "liver.nii.gz").touch()
    assert isinstance(find_segmenter(str(tmp_path)), MaskFolder)
    with pytest.raises(UsageError, match="no segmenter is called 'nnunet'"):
        find_segmenter("nnunet")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="no checkpoint in"):
        find_segmenter(str(tmp_path))


def test_totalsegmentators_classes_are_matched_by_name(monkeypatch):
    names = {organ.id: organ.name for organ in TOTAL.classes}
    monkeypatch.setattr(TotalSegmentator, "unavailable", classmethod(lambda *_: None))
    monkeypatch.setattr(
        TotalSegmentator, "_run", lambda self, image: (nib.Nifti1Image(in_total(OWN), AFFINE), names)
    )
    found = TotalSegmentator("fast", "cpu").segment(VOLUME, AMOS22, "a")
    np.testing.assert_array_equal(found.voxels, OWN)
    assert found.classes == frozenset(range(1, 16))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_gray_values_given_for_hu_are_refused_with_the_reason(low, high):
    gray = np.linspace(low, high, VOLUME.voxels.size, dtype=np.float32).reshape(SHAPE)
    with pytest.raises(DataError, match=r"subject_3: its values are within .* cannot be HU") as error:
        TotalSegmentator("fast", "cpu").segment(Volume(gray, VOLUME.geometry), AMOS22, "subject_3")
    assert "HU =" in error.value.hint


def test_without_totalsegmentator_or_its_weights_the_reason_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'ctsynth[totalsegmentator]'" in TotalSegmentator.unavailable()
    with pytest.raises(UsageError, match="not installed"):
        TotalSegmentator("fast", "cpu").segment(VOLUME, AMOS22, "a")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: sys)
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    reason = TotalSegmentator.unavailable("fast", "cpu")
    assert "Dataset297" in reason
    assert "totalseg_download_weights -t total_fast" in reason


def test_the_cpu_is_used_only_if_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: sys)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    (tmp_path / "Dataset297_any").mkdir()
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    assert "score --device cpu" in TotalSegmentator.unavailable("fast")
    assert TotalSegmentator.unavailable("fast", "cpu") is None
    assert TotalSegmentator("fast", "cpu").device == "cpu"
    with pytest.raises(UsageError, match="there is no GPU here"):
        TotalSegmentator("fast").segment(VOLUME, AMOS22, "a")
