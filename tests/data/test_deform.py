"""Deformed label volumes: plausible, on their source's grid, with names and a record, and over no other file."""

import json

import nibabel as nib
import numpy as np
import pytest
from label_names import write_names
from typer.testing import CliRunner

from ctsynth.cli.app import app
from ctsynth.data.deform import DeformConfig, deformed, deformed_pair, label_volumes
from ctsynth.data.diffeomorphism import Deformation
from ctsynth.data.edit_labels import Edit
from ctsynth.data.plausible import implausible
from ctsynth.data.volume import Volume
from ctsynth.data.warp import warped
from ctsynth.errors import DataError, RunError

SPACING = (4.0, 4.0, 8.0)


def anatomy():
    """(40, 36, 12) uint8 in a body 16: liver 6, spleen 1."""
    x, y, z = np.ogrid[:40, :36, :12]
    labels = np.where(((x - 20) / 18) ** 2 + ((y - 18) / 15) ** 2 + 0 * z < 1, 16, 0).astype(np.uint8)
    labels[(x - 12) ** 2 + (y - 20) ** 2 + (2 * (z - 6)) ** 2 < 49] = 6
    labels[(x - 30) ** 2 + (y - 14) ** 2 + (2 * (z - 6)) ** 2 < 25] = 1
    return labels


@pytest.fixture
def mask(tmp_path):
    """The anatomy in a file whose axes run left, posterior and superior."""
    path = tmp_path / "labels" / "seg.nii.gz"
    path.parent.mkdir()
    affine = np.diag([-4.0, -4.0, 8.0, 1.0])
    nib.save(nib.Nifti1Image(anatomy(), affine), path)
    return path


def run(*words):
    return CliRunner().invoke(app, ["-q", "deform", *map(str, words)])


def record(path):
    return json.loads(path.with_name(path.name.removesuffix(".nii.gz") + ".json").read_text())


def test_a_shift_by_whole_voxels_moves_every_label_by_that_much():
    shift = np.array([8.0, -4.0, 8.0])[:, None, None, None]
    deformation = Deformation.of_velocity(np.ones((3, 36, 32, 22)) * shift)
    made, distance = warped(anatomy(), SPACING, deformation)
    assert np.array_equal(made[:-2, 1:, :-1], anatomy()[2:, :-1, 1:])
    assert distance == {"rms_mm": 12.0, "max_mm": 12.0}


def test_zero_strength_returns_the_source():
    made, found = deformed(anatomy(), SPACING, {}, DeformConfig(strength=0), ("seg", 0))
    assert np.array_equal(made, anatomy())
    assert found["distance"]["classes"]["6"] == {"dice": 1.0, "volume": 1.0}


def test_an_accepted_deformation_keeps_every_class_and_its_volume():
    for sample in range(3):
        made, found = deformed(anatomy(), SPACING, {}, DeformConfig(), ("seg", sample))
        assert implausible(anatomy(), made, {}) == ""
        for label in (1, 6, 16):
            before, after = anatomy() == label, made == label
            told = found["distance"]["classes"][str(label)]
            assert told["volume"] == pytest.approx(after.sum() / before.sum(), abs=1e-4)
            assert 0.75 <= told["volume"] <= 1.25
            assert told["dice"] == pytest.approx(
                2 * (before & after).sum() / (before.sum() + after.sum()), abs=1e-4
            )
        assert found["smallest_jacobian"] >= 0.3


def test_an_image_is_deformed_with_its_labels_and_these_are_those_of_deform():
    labels, config = anatomy(), DeformConfig(seed=3)
    hu = np.choose(np.searchsorted([0, 1, 6, 16], labels), [-1000, 120, 100, 40]).astype(np.int16)
    image, made, record = deformed_pair(hu, labels, SPACING, {}, config, ("seg", 1))
    alone, found = deformed(labels, SPACING, {}, config, ("seg", 1))
    assert np.array_equal(made, alone)
    assert record == found
    assert record["smallest_jacobian"] >= 0.3
    for label, value in ((0, -1000), (1, 120), (6, 100), (16, 40)):
        assert np.median(image[made == label]) == value


def test_a_pair_must_have_one_shape_and_no_edits():
    with pytest.raises(ValueError, match="one shape"):
        deformed_pair(np.zeros((40, 36, 11)), anatomy(), SPACING, {}, DeformConfig(), ("seg", 0))
    edited = DeformConfig(edits=(Edit("liver", scale=0.9),))
    with pytest.raises(ValueError, match="labels only"):
        deformed_pair(np.zeros((40, 36, 12)), anatomy(), SPACING, {6: "liver"}, edited, ("seg", 0))


def without(labels, where):
    return np.where(where, 16, labels).astype(np.uint8)


def test_each_rejection_names_its_class():
    labels = anatomy()
    x = np.arange(40)[:, None, None] + 0 * labels
    names = {1: "spleen", 6: "liver"}
    assert implausible(labels, without(labels, labels == 1), names) == "spleen vanishes"
    assert implausible(labels, without(labels, (labels == 6) & (x == 12)), names) == "liver splits"
    smaller = without(labels, (labels == 6) & (x < 11))
    assert implausible(labels, smaller, names).startswith("liver changes its volume by -")
    assert implausible(labels, without(labels, labels == 1), {}) == "label 1 vanishes"
    assert implausible(labels, labels, names) == ""


def test_a_volume_without_a_plausible_deformation_is_reported(monkeypatch):
    monkeypatch.setattr("ctsynth.data.deform.implausible", lambda *_: "liver splits")
    with pytest.raises(RunError, match="none of 20 deformations is plausible; in the last liver splits"):
        deformed(anatomy()[:8, :8, :4], SPACING, {}, DeformConfig(), ("seg", 0))


def edited(*edits):
    return deformed(
        anatomy(), SPACING, {1: "spleen", 6: "liver"}, DeformConfig(strength=0, edits=edits), ("seg", 0)
    )


def center(mask):
    return np.argwhere(mask).mean(0) * SPACING


@pytest.mark.parametrize("scale", [0.75, 0.9, 1.2, 1.35])
def test_a_scaled_class_is_what_scaling_alone_makes_of_it(scale):
    made, found = edited(Edit("Liver", scale=scale))
    liver = anatomy() == 6
    middle = np.argwhere(liver).mean(0)[:, None, None, None]
    x, y, z = np.rint(middle + (np.indices(liver.shape) - middle) / scale).astype(int).clip(0)
    wanted = liver[x.clip(0, 39), y.clip(0, 35), z.clip(0, 11)]
    assert 2 * (wanted & (made == 6)).sum() / (wanted.sum() + (made == 6).sum()) > 0.97
    assert found["distance"]["classes"]["liver"]["volume"] == pytest.approx(
        (made == 6).sum() / liver.sum(), abs=1e-4
    )


@pytest.mark.parametrize("shift", [(12.0, 0.0, 0.0), (0.0, -8.0, 0.0), (4.0, 4.0, 8.0)])
def test_a_shifted_class_is_elsewhere_and_as_large(shift):
    made, found = edited(Edit("1", shift=shift))
    assert center(made == 1) - center(anatomy() == 1) == pytest.approx(shift, abs=1.0)
    assert found["distance"]["classes"]["spleen"]["volume"] == pytest.approx(1, abs=0.06)


def test_an_edit_fades_with_the_distance_from_its_class():
    made, _ = edited(Edit("liver", scale=0.8))
    spleen = anatomy() == 1  # 30 mm from it and more
    both = 2 * (spleen & (made == 1)).sum() / (spleen.sum() + (made == 1).sum())
    assert both > 0.9
    assert np.array_equal(made[36:], anatomy()[36:])  # 70 mm


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "liver"], "--scale liver: wanted CLASS=FACTOR, above 0"),
        (["--scale", "6=0"], "--scale 6=0: wanted CLASS=FACTOR, above 0"),
        (["--shift", "6=1,2"], "--shift 6=1,2: wanted CLASS=RIGHT,ANTERIOR,SUPERIOR in mm"),
        (["--scale", "pancreas=0.8"], "no class 'pancreas'"),
        (["--scale", "6=3"], "the edit 6=3 leaves a region 0.0"),
        (["--shift", "6=0,200,0"], "6=0,200,0 "),
    ],
)
def test_an_edit_that_cannot_be_made_exits_with_2_and_says_why(mask, words, message):
    done = run(mask, *words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert list(mask.parent.iterdir()) == [mask]


@pytest.fixture
def lesion(mask):
    """A ball of 12 mm in the liver, in a file with the axes of the anatomy's."""
    x, y, z = np.ogrid[:40, :36, :12]
    ball = ((x - 12) ** 2 + (y - 20) ** 2 + (2 * (z - 6)) ** 2 < 10).astype(np.uint8)
    path = mask.parent.parent / "lesion.nii.gz"
    nib.save(nib.Nifti1Image(ball, np.diag([-4.0, -4.0, 8.0, 1.0])), path)
    return path


def test_an_inserted_class_is_where_its_mask_is_and_has_a_number_and_a_name(mask, lesion):
    write_names(mask, {1: "spleen", 6: "liver", 16: "body"})
    assert run(mask, "--insert", f"tumor={lesion}", "--strength", 0).exit_code == 0
    made = Volume.load(mask.parent / "seg_deformed_0.nii.gz")
    ball, before = Volume.load(lesion).voxels != 0, Volume.load(mask).voxels
    assert np.array_equal(made.voxels, np.where(ball, 17, before))
    assert made.names[17] == "tumor"
    assert record(mask.parent / "seg_deformed_0.nii.gz")["distance"]["classes"]["tumor"] == {
        "dice": 1.0,
        "volume": 1.0,
    }
    assert "made with edits ['tumor=sha256:" in run(mask, "--strength", 0).stderr


def test_an_inserted_class_is_deformed_and_shifted_with_the_others(mask, lesion):
    words = ("--insert", f"20={lesion}", "--shift", "20=8,0,0")
    assert run(mask, *words, "--strength", 0).exit_code == 0
    made = Volume.load(mask.parent / "seg_deformed_0.nii.gz").voxels == 20
    moved = center(made) - center(Volume.load(lesion).voxels != 0)
    assert np.abs(moved) == pytest.approx([8, 0, 0], abs=1.0)
    assert run(mask, "--insert", f"20={lesion}", "--out", mask.parent.parent / "bent").exit_code == 0
    bent = Volume.load(mask.parent.parent / "bent" / "seg_deformed_0.nii.gz").voxels
    assert 0.75 <= (bent == 20).sum() / (Volume.load(lesion).voxels != 0).sum() <= 1.25


def test_an_insertion_that_cannot_be_made_exits_with_2_and_says_why(mask, lesion):
    def refused(word):
        done = run(mask, "--insert", word)
        assert done.exit_code == 2, done.output
        assert [path.name for path in mask.parent.iterdir()] == [mask.name]
        return done.stderr

    assert "--insert tumor: wanted CLASS=FILE" in refused("tumor")
    assert "none.nii.gz: no such file" in refused("tumor=none.nii.gz")
    assert "its classes have no names" in refused(f"tumor={lesion}")
    assert "would be label 300, wanted 1 to 254" in refused(f"300={lesion}")
    ball = np.asarray(nib.load(lesion).dataobj)
    for voxels, affine, message in (
        (ball, 2 * np.diag([-4.0, -4.0, 8.0, 0.5]), "on another grid"),
        (0 * ball, np.diag([-4.0, -4.0, 8.0, 1.0]), "nothing but background"),
        (np.ones_like(ball), np.diag([-4.0, -4.0, 8.0, 1.0]), "voxels are background"),
    ):
        nib.save(nib.Nifti1Image(voxels, affine), lesion)
        assert message in refused(f"20={lesion}")


def test_other_edits_are_other_settings(mask):
    assert run(mask, "--scale", "6=0.8").exit_code == 0
    assert record(mask.parent / "seg_deformed_0.nii.gz")["edits"] == ["6=0.8"]
    assert "made with edits ['6=0.8'], not []" in run(mask).stderr


def test_deformed_volumes_lie_on_the_sources_grid_with_its_record_and_are_made_once(mask, tmp_path):
    done = run(mask, "--samples", 2, "--out", tmp_path / "more")
    paths = [tmp_path / "more" / f"seg_deformed_{sample}.nii.gz" for sample in range(2)]
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == list(map(str, paths))
    first, second = map(nib.load, paths)
    assert np.array_equal(first.affine, nib.load(mask).affine)
    assert first.get_data_dtype() == np.uint8
    assert not np.array_equal(first.dataobj, second.dataobj)
    found = record(paths[0])
    assert {
        "seed": 0,
        "sample": 0,
        "strength": 1.0,
        "smoothness_mm": 40.0,
        "rms_mm": [6.0, 4.0],
    }.items() <= found.items()
    assert 0 < found["distance"]["rms_mm"] <= found["distance"]["max_mm"]
    before = [path.read_bytes() for path in paths]
    paths[1].write_bytes(before[1][:100])  # as if broken off
    again = run(mask, "--samples", 2, "--out", tmp_path / "more")
    assert again.exit_code == 0, again.output
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("source", ["header", "dataset.json"])
def test_the_classes_keep_their_names(mask, tmp_path, source):
    if source == "header":
        write_names(mask, {1: "spleen", 6: "liver & bile", 16: "body"})
    else:
        labels = {"background": 0, "spleen": 1, "liver & bile": 6, "body": 16}
        (mask.parent / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert run(mask, "--out", tmp_path / "more").exit_code == 0
    made = tmp_path / "more" / "seg_deformed_0.nii.gz"
    assert {1: "spleen", 6: "liver & bile", 16: "body"}.items() <= Volume.load(made).names.items()
    assert set(record(made)["distance"]["classes"]) == {"spleen", "liver & bile", "body"}


def test_a_folder_is_deformed_volume_by_volume_without_what_was_made_there(mask):
    assert run(mask.parent).exit_code == 0
    again = run(mask.parent, "--samples", 2)
    assert [path.rsplit("/")[-1] for path in again.stdout.split()] == [
        "seg_deformed_0.nii.gz", "seg_deformed_1.nii.gz"
    ]  # fmt: skip


def test_other_settings_and_files_of_the_user_are_refused(mask, tmp_path):
    out = tmp_path / "more"
    assert run(mask, "--out", out).exit_code == 0
    refused = run(mask, "--out", out, "--strength", 0.5)
    assert refused.exit_code == 2
    assert "made with strength 1.0, not 0.5" in refused.stderr
    assert run(mask, "--out", out, "--strength", 0.5, "--overwrite").exit_code == 0
    (out / "seg_deformed_0.json").unlink()
    theirs = run(mask, "--out", out, "--overwrite")
    assert theirs.exit_code == 2
    assert "not overwritten: no record of a deformed label volume beside it" in theirs.stderr


def test_an_unusable_label_volume_does_not_stop_the_others(mask):
    hu = np.random.default_rng(0).normal(-400, 300, (8, 8, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(hu, np.eye(4)), mask.parent / "ct.nii.gz")
    done = run(mask.parent)
    assert done.exit_code == 1
    assert "1 of 2 label volumes cannot be deformed" in done.stderr
    assert "it looks like a CT" in done.stderr
    assert done.stdout.split() == [str(mask.parent / "seg_deformed_0.nii.gz")]


def test_an_output_that_names_a_file_is_refused(mask, tmp_path):
    done = run(mask, "--out", tmp_path / "one.nii.gz")
    assert done.exit_code == 2
    assert "one.nii.gz: name a folder" in done.stderr
    assert not (tmp_path / "one.nii.gz").exists()


def test_a_missing_or_empty_path_exits_with_2(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nowhere.nii.gz", tmp_path / "empty"):
        done = run(path)
        assert done.exit_code == 2, done.output
        assert str(path) in done.stderr
    assert not list((tmp_path / "empty").iterdir())


def test_a_real_segmentation_has_plausible_neighbors(real_ct, tmp_path):
    done = run(real_ct / "labelsTr" / "ts_example_0001.nii.gz", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert record(tmp_path / "ts_example_0001_deformed_0.nii.gz")["distance"]["classes"]["liver"]["dice"] > 0.7


def test_a_path_that_is_missing_and_a_folder_without_volumes_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.nii.gz: no such file or folder"):
        label_volumes(tmp_path / "nowhere.nii.gz")
    with pytest.raises(DataError, match="no label volumes here"):
        label_volumes(tmp_path)
