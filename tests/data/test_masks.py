"""Label volumes brought to a label set by name: nothing changes its class, and nothing is lost in silence."""

import json
import logging

import numpy as np
import pytest
from label_names import write_names
from small_runs import labels_like

from ctsynth.data.masks import BODY_SHARE, ORGAN_SIZED, complete, complete_labels
from ctsynth.data.relabel import Given, given_by_dataset, read_labels
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError
from ctsynth.labels import AMOS22

GRID = Geometry((32, 24, 6), np.diag([12.0, 12.0, 5.0, 1.0]))
NAMES = {1: "Liver", 2: "Spleen"}
"""Of AMOS22's liver (6) and spleen (1), numbered otherwise."""


@pytest.fixture
def organs(small_case):
    """(32, 24, 6) liver and spleen in AMOS22's numbers, without body."""
    return small_case(3).labels


def renumbered(organs):
    """The same in those of ``NAMES``."""
    return np.select([organs == 6, organs == 1], [1, 2], 0).astype(np.uint8)


def drawn_from(voxels, tmp_path, *, names=None, **options):
    """What a model of AMOS22 is given for these voxels, and where the body came from."""
    return complete_labels(tmp_path / "seg.nii.gz", Volume(voxels, GRID, names), AMOS22, **options)[:2]


def with_lesion(organs, voxels):
    """So many voxels of the liver under a number of their own, 9."""
    changed = renumbered(organs)
    changed[tuple(axis[:voxels] for axis in np.nonzero(changed == 1))] = 9
    return changed


def test_names_decide_and_not_numbers(organs, tmp_path):
    expected, _ = drawn_from(organs, tmp_path)
    by_header, _ = drawn_from(renumbered(organs), tmp_path, names=NAMES)
    given = Given({value: (name,) for value, name in NAMES.items()}, "dataset.json")
    by_dataset, _ = drawn_from(renumbered(organs), tmp_path, dataset=given)
    np.testing.assert_array_equal(by_header, expected)
    np.testing.assert_array_equal(by_dataset, expected)
    assert {1, 6, 16} == set(np.unique(expected)) - {0}


def test_label_names_given_precede_the_header_and_the_header_precedes_dataset_json(organs, tmp_path):
    expected, _ = drawn_from(organs, tmp_path)
    wrong = Given({1: ("stomach",), 6: ("aorta",)}, "dataset.json")
    true = {1: "spleen", 6: "liver"}
    np.testing.assert_array_equal(drawn_from(organs, tmp_path, names=true, dataset=wrong)[0], expected)
    wrong_too = {1: "stomach", 6: "aorta"}
    named = drawn_from(organs, tmp_path, names=wrong_too, dataset=wrong, labels="amos22")
    np.testing.assert_array_equal(named[0], expected)


def test_a_label_number_without_a_name_is_an_error(organs, tmp_path):
    voxels = organs.copy()
    voxels[16, 12, 3] = 4
    with pytest.raises(DataError, match=r"seg\.nii\.gz: holds 4; its header has 0 to 3") as refused:
        drawn_from(np.clip(voxels, 0, 4), tmp_path, names={1: "spleen", 2: "liver", 3: "aorta"})
    assert "`labels`" in refused.value.hint


def test_a_few_voxels_without_a_class_become_body_with_a_warning(organs, tmp_path, caplog):
    expected, _ = drawn_from(organs, tmp_path)
    found, _ = drawn_from(with_lesion(organs, 1), tmp_path, names=NAMES | {9: "tumor"})
    assert "amos22 has no class for tumor (1 voxel): now body" in caplog.text
    assert (found != expected).sum() == 1
    assert set(found[found != expected]) == {16}


def test_an_unmatched_class_as_large_as_an_organ_is_an_error_unless_unmatched_is_set(organs, tmp_path):
    expected, _ = drawn_from(organs, tmp_path)
    patient = np.count_nonzero(expected)
    few = int(np.ceil(ORGAN_SIZED * patient))
    lesion = with_lesion(organs, few)
    names = NAMES | {9: "tumor"}
    drawn_from(with_lesion(organs, few - 1), tmp_path, names=names)
    with pytest.raises(
        DataError, match=rf"amos22 has no class for tumor \({few} voxels\): 0\.1.* of the patient"
    ) as e:
        drawn_from(lesion, tmp_path, names=names)
    assert "`unmatched` body" in e.value.hint
    for unmatched, becomes in (("body", 16), ("background", 0)):
        found, _ = drawn_from(lesion, tmp_path, names=names, unmatched=unmatched)
        assert set(found[lesion == 9]) == {becomes}
        np.testing.assert_array_equal(found[lesion != 9], expected[lesion != 9])


def test_many_small_losses_are_one_large_one(organs, tmp_path):
    voxels = renumbered(organs)
    names = dict(NAMES)
    for n, place in enumerate(np.argwhere(voxels == 1)[:20]):
        voxels[tuple(place)], names[20 + n] = 20 + n, f"lesion {n}"
    with pytest.raises(DataError, match=r"lesion 0 \(1 voxel\), .* and 12 more"):
        drawn_from(voxels, tmp_path, names=names)


@pytest.mark.parametrize("voxels", [1, 60])
def test_stray_voxels_of_the_body_label_do_not_turn_body_finding_off(voxels, organs, tmp_path, caplog):
    expected, _ = drawn_from(organs, tmp_path)
    stray = organs.copy()
    stray[tuple(axis[:voxels] for axis in np.nonzero(expected == 16))] = 16
    stray[0, 0, 0] = 16  # in the air
    found, origin = drawn_from(stray, tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert origin == "estimated"
    assert f"label 16, body, covers less than {100 * BODY_SHARE:.0f} % of the patient" in caplog.text


def test_a_body_label_is_kept_as_it_is(small_case, tmp_path, caplog):
    given = labels_like(small_case(3))
    with caplog.at_level(logging.WARNING):
        found, origin = drawn_from(given, tmp_path)
    np.testing.assert_array_equal(found, given)
    assert (origin, caplog.text) == ("label", "")


def test_a_body_alone_is_a_body(small_case, tmp_path):
    given = np.where(labels_like(small_case(3)) > 0, 16, 0).astype(np.uint8)
    found, origin = drawn_from(given, tmp_path)
    np.testing.assert_array_equal(found, given)
    assert origin == "label"


def test_a_mask_of_left_out_labels_only_is_refused(organs, tmp_path):
    bones = np.where(organs > 0, 3, 0).astype(np.uint8)
    names = {1: "liver", 3: "bones"}
    with pytest.raises(DataError, match="nothing but background"):
        drawn_from(bones, tmp_path, names=names, unmatched="background")
    assert set(np.unique(drawn_from(bones, tmp_path, names=names, unmatched="body")[0])) == {0, 16}


def test_a_ct_given_as_a_mask_is_refused_with_its_range(small_case, tmp_path):
    hu = small_case(3).hu
    hu[0, 0, :2] = -1024, 1871
    for ct in (hu, hu.astype(np.float32) + 0.25):
        words = rf"it looks like a CT, its values go from {ct.min():g} to {ct.max():g}$"
        with pytest.raises(DataError, match=words):
            drawn_from(ct, tmp_path)


def test_other_images_given_as_a_mask_are_refused(small_case, tmp_path):
    hu = small_case(3).hu.astype(np.float32)
    for image in (hu / 1000, np.where(hu > 0, hu, np.nan), hu * 0.5 + 600.25):
        with pytest.raises(DataError, match=r"not a label volume: holds .* wanted whole numbers from 0") as error:
            drawn_from(image, tmp_path)
        assert "is it a CT?" in error.value.hint
    with pytest.raises(DataError, match="holds 4,608 values; its values go from 0 to 4607"):
        drawn_from(np.arange(hu.size, dtype=np.uint16).reshape(hu.shape), tmp_path)


def test_masks_of_another_set_are_refused_unless_a_name_is_shared(organs, tmp_path):
    brain = tmp_path / "brain.json"
    classes = [{"id": 1, "name": "putamen"}, {"id": 6, "name": "thalamus"}]
    brain.write_text(json.dumps({"name": "brain", "classes": classes}))
    with pytest.raises(DataError, match=r"none of its names is one of amos22: putamen, thalamus"):
        drawn_from(organs, tmp_path, labels=str(brain))
    brain.write_text(json.dumps({"name": "brain", "classes": [*classes, {"id": 7, "name": "liver"}]}))
    with pytest.raises(DataError, match=r"amos22 has no class for thalamus \(\d+ voxels\), putamen"):
        drawn_from(organs, tmp_path, labels=str(brain))


def test_a_dataset_json_may_be_named(organs, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    expected, _ = drawn_from(organs, tmp_path)
    np.testing.assert_array_equal(drawn_from(renumbered(organs), tmp_path, labels=str(path))[0], expected)


def test_values_above_255_are_labels_too(organs, tmp_path):
    voxels = np.where(organs == 6, 1000, organs.astype(np.int16))
    labels = read_labels(tmp_path / "x", Volume(voxels, GRID, {1000: "liver", 1: "spleen"}), AMOS22)
    np.testing.assert_array_equal(labels.voxels, organs)
    assert labels.unknown is None


def test_a_dataset_json_without_names_in_common_is_refused_by_name(organs, tmp_path):
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "putamen": 1}}))
    given = given_by_dataset(tmp_path / "labelsTr")
    with pytest.raises(DataError, match=r"dataset\.json: none of its names"):
        drawn_from(organs, tmp_path, dataset=given)


def test_a_body_label_over_half_of_the_patient_counts_and_over_a_fifth_does_not(tmp_path):
    patient = np.ones((10, 10, 10), np.bool_)
    geometry = Geometry(patient.shape, np.eye(4))
    for share, has_body in ((0.5, True), (0.2, False)):
        voxels = np.zeros(patient.shape, np.uint8)
        voxels[: round(10 * share)] = 16
        labels = read_labels(tmp_path / "x", Volume(voxels, geometry), AMOS22)
        done = complete(labels, AMOS22, lambda _: patient, None)
        assert done.has_body is has_body
        assert np.count_nonzero(done.voxels == 16) == (500 if has_body else 1000)
        assert done.stray == (0 if has_body else 200)


def test_names_in_a_header_are_read_with_the_voxels(organs, tmp_path, write_nifti):
    path = write_nifti(tmp_path / "seg.nii.gz", renumbered(organs), GRID.affine)
    write_names(path, {0: "???"} | NAMES)
    np.testing.assert_array_equal(read_labels(path, Volume.load(path), AMOS22).voxels, organs)
