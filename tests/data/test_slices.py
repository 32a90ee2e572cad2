import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from ctsynth.data.slices import from_slices, stack, stacked_geometry, to_slices, unstack
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window

RNG = np.random.default_rng(0)


def geometry_of(shape, angles=(0, 0, 0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * (0.8, 1.1, 5)
    affine[:3, 3] = (-150, 20, -800)
    return Geometry(shape, affine)


def test_row_0_is_anterior_and_column_0_is_the_patients_right():
    voxels = RNG.integers(0, 99, (5, 7, 3))
    slices = unstack(voxels)
    for (z, h, w), value in np.ndenumerate(slices):
        assert value == voxels[5 - 1 - w, 7 - 1 - h, z]
    np.testing.assert_array_equal(stack(slices), voxels)


@settings(max_examples=60, deadline=None)
@given(
    x=st.integers(1, 12),
    y=st.integers(1, 12),
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
)
def test_volume_to_slices_to_volume_is_the_identity_at_the_native_size(
    x, y, order, flips, angles, tmp_path_factory
):
    import nibabel as nib

    shape = (x, y, 4)
    affine = geometry_of(shape, angles).affine[:, [*order, 3]] * (*flips, 1)
    hu = RNG.integers(-1024, 1500, tuple(np.array(shape)[list(order)])).astype(np.int16)
    path = tmp_path_factory.mktemp("identity") / "ct.nii.gz"
    nib.save(nib.Nifti1Image(hu, affine), path)
    volume = Volume.load(path)
    clipped = Window().clip(volume.voxels)
    size = max(volume.geometry.shape[:2])
    back = from_slices(to_slices(clipped, size, "ct"), volume.geometry, "ct")
    np.testing.assert_array_equal(back, clipped)
    labels = (volume.voxels % 17).astype(np.uint8)
    again = from_slices(to_slices(labels, size, "labels"), volume.geometry, "labels")
    np.testing.assert_array_equal(again, labels)
    Volume(back, volume.geometry).save(path)
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), np.clip(hu, -160, 240))


def test_padding_is_centered_air_and_background():
    slices = to_slices(np.ones((2, 5, 1), np.int16), 5, "ct", air=-160)
    assert slices[0].tolist() == [[-160, 1, 1, -160, -160]] * 5
    assert to_slices(np.ones((5, 4, 1), np.uint8), 5, "labels")[0].tolist() == [[1] * 5] * 4 + [[0] * 5]


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize(("low", "high"), [(-160, 240), (-512, 511), (-513, 0), (-32768, 32767), (9, 9)])
@pytest.mark.parametrize(
    ("side", "size"), [(16, 16), (31, 16), (16, 31), (4, 2), (6, 3), (16, 8), (512, 256), (101, 64), (7, 8)]
)
def test_a_ct_is_resized_as_by_pillow(side, size, low, high, dtype):
    hu = RNG.integers(low, high + 1, (1, side, side)).astype(dtype)
    expected = Image.fromarray(hu[0].astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(to_slices(stack(hu), size, "ct")[0], np.rint(np.asarray(expected)))


@pytest.mark.parametrize(("side", "size"), [(16, 16), (31, 16), (512, 256), (101, 64), (7, 8)])
def test_labels_are_resized_as_by_pillow(side, size):  # where no center lies on a border between two voxels
    labels = RNG.integers(0, 17, (1, side, side)).astype(np.uint8)
    nearest = Image.fromarray(labels[0]).resize((size, size), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(to_slices(stack(labels), size, "labels")[0], np.asarray(nearest))


@pytest.mark.parametrize("angles", [(0, 0, 0), (9, -14, 25)])
@pytest.mark.parametrize(("shape", "size"), [((40, 40, 5), 20), ((40, 33, 5), 16), ((30, 41, 5), 64)])
def test_the_stacked_geometry_says_where_the_pixels_lie(shape, size, angles):
    geometry = geometry_of(shape, angles)

    def height(grid):  # HU that rise linearly through the room; resizing leaves such a field as it is
        indices = np.indices(grid.shape).reshape(3, -1)
        places = grid.affine[:3, :3] @ indices + grid.affine[:3, 3:]
        return (np.array([7.0, -5.0, 3.0]) @ (places - geometry.affine[:3, 3:])).reshape(grid.shape)

    field = np.rint(height(geometry)).astype(np.int16)
    pixels = stack(to_slices(field, size, "ct")).astype(float)
    stacked = stacked_geometry(geometry, size)
    assert stacked.shape == (size, size, shape[2])
    assert stacked.spacing[:2] == pytest.approx(
        [spacing * max(shape[:2]) / size for spacing in geometry.spacing[:2]]
    )
    assert stacked.spacing[2] == pytest.approx(geometry.spacing[2])
    middle = slice(size // 4, -size // 4)  # away from padding and border
    np.testing.assert_allclose(pixels[middle, middle], height(stacked)[middle, middle], atol=1.01)
    back = from_slices(to_slices(field, size, "ct"), geometry, "ct")
    inner = slice(10, -10)
    np.testing.assert_allclose(back[inner, inner], field[inner, inner], atol=2.01)


def test_every_label_of_a_blob_lands_where_the_stacked_geometry_says():
    labels = np.zeros((60, 50, 2), np.uint8)
    labels[20:32, 11:17] = 5
    geometry = geometry_of(labels.shape)
    stacked = stacked_geometry(geometry, 30)
    found = np.argwhere(stack(to_slices(labels, 30, "labels")) == 5).mean(axis=0)
    np.testing.assert_allclose(
        (stacked.affine @ [*found, 1])[:2], (geometry.affine @ [25.5, 13.5, 0.5, 1])[:2], atol=1e-6
    )


def test_slices_of_another_volume_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        from_slices(np.zeros((3, 8, 8)), geometry_of((8, 8, 4)), "labels")


@pytest.mark.parametrize("kind", ["ct", "labels"])
def test_slices_far_from_square_take_no_more_memory_than_one_square(kind):
    voxels = RNG.integers(0, 17, (2048, 1, 40), dtype=np.int16)  # as squares 335 MB
    tracemalloc.start()
    slices = to_slices(voxels, 16, kind)
    again = from_slices(slices, geometry_of(voxels.shape), kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert again.shape == voxels.shape
    assert peak < 100e6
