import numpy as np
import pytest

from ctsynth.data.pairs import read_pair
from ctsynth.data.source_case import SourceCase
from ctsynth.errors import DataError
from ctsynth.labels import AMOS22


@pytest.fixture
def pair(tmp_path, small_case, write_nifti):
    """Writes an image and a label volume after a change to either; reads them as a pair."""

    def read(change=lambda case: case, image_axes="RAS", label_axes="RAS", label_affine=None):
        case = change(small_case(1))
        affine = case.affine if label_affine is None else label_affine
        image = write_nifti(tmp_path / "ct.nii.gz", case.hu, case.affine, image_axes)
        label = write_nifti(tmp_path / "seg.nii.gz", case.labels, affine, label_axes)
        hu, labels, geometry = read_pair(SourceCase("a", "train", image, label), AMOS22)
        return hu, labels.voxels, geometry

    return read


def test_an_lps_image_and_an_las_label_of_the_same_world_are_the_agreeing_ones(pair, small_case):
    hu, labels, geometry = pair(image_axes="LPS", label_axes="LAS")
    case = small_case(1)
    np.testing.assert_array_equal(hu, case.hu)
    np.testing.assert_array_equal(labels, case.labels)
    np.testing.assert_allclose(geometry.affine, case.affine, atol=1e-3)
    assert (hu.dtype, labels.dtype) == (np.int16, np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_hu_and_labels_of_other_dtypes_are_the_same(dtype, pair, small_case):
    hu, labels, _ = pair(lambda case: case._replace(hu=case.hu.astype(dtype), labels=case.labels.astype(dtype)))
    np.testing.assert_array_equal(hu, small_case(1).hu)
    np.testing.assert_array_equal(labels, small_case(1).labels)


def put(array, value, dtype=None):
    array = array.astype(dtype or array.dtype)
    array[16, 12, 3] = value
    return array


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda case: case._replace(labels=put(case.labels, 99)), r"seg\.nii\.gz: holds 99; amos22 has 0 to 16"),
        (lambda case: case._replace(labels=put(case.labels, -1, np.int16)), "holds -1;"),
        (lambda case: case._replace(labels=put(case.labels, 262, np.int16)), "holds 262;"),
        (lambda case: case._replace(labels=put(case.labels, 2.5, np.float32)), r"holds 2\.5;"),
        (lambda case: case._replace(labels=put(case.labels, np.nan, np.float32)), "holds nan;"),
        (lambda case: case._replace(hu=put(case.hu, np.nan, np.float32)), r"ct\.nii\.gz: 1 voxels are NaN"),
        (lambda case: case._replace(hu=put(case.hu, np.inf, np.float32)), "1 voxels are NaN or infinite"),
        (lambda case: case._replace(hu=np.clip(case.hu, -160, 240)), r"go from -160 to 1\d\d; in HU"),
        (lambda case: case._replace(hu=np.clip(case.hu / 400, 0, 1)), r"go from 0 to 0\.\d+; in HU"),
        (
            lambda case: case._replace(labels=case.labels[:, :, 1:]),
            r"shape is \(32, 24, 5\), that of .*\(32, 24, 6\)",
        ),
    ],
)
def test_a_pair_that_cannot_be_used_is_refused_with_what_was_found(change, said, pair):
    with pytest.raises(DataError, match=said) as error:
        pair(change)
    assert error.value.hint


@pytest.mark.parametrize(("shift", "is_same"), [(0.0009, True), (0.002, False), (5.0, False)])
def test_affines_may_differ_by_a_thousandth(shift, is_same, pair, small_case):
    affine = small_case(1).affine.round(1)
    affine[2, 3] += shift

    def change(case):
        return case._replace(affine=case.affine.round(1))

    if is_same:
        pair(change, label_affine=affine)
    else:
        with pytest.raises(DataError, match=r"affine differs .* by up to"):
            pair(change, label_affine=affine)


def test_a_body_label_is_not_unknown(pair):
    _, labels, _ = pair(lambda case: case._replace(labels=put(case.labels, 16)))
    assert labels[16, 12, 3] == 16
