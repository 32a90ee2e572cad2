import numpy as np
import pytest

from ctsynth.measures.planes import PLANES, resampled_planes

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("axis", PLANES.values())
def test_a_volume_of_1_5_mm_has_its_own_planes(axis):
    volume = RNG.random((6, 8, 10)).astype(np.float32)
    found = list(resampled_planes(volume, np.ones(volume.shape, bool), (1.5, 1.5, 1.5), axis))
    np.testing.assert_array_equal(np.stack(found), np.moveaxis(volume, axis, 0))


@pytest.mark.parametrize("axis", PLANES.values())
def test_a_linear_volume_stays_linear_on_the_isotropic_grid(axis):
    z, y, x = np.meshgrid(3.0 * np.arange(10), 0.75 * np.arange(40), 1.5 * np.arange(12), indexing="ij")
    volume = (0.3 * z + 0.2 * y - 0.1 * x).astype(np.float32)
    found = np.stack(list(resampled_planes(volume, np.ones(volume.shape, bool), (3.0, 0.75, 1.5), axis)))
    found = np.moveaxis(found, 0, axis)
    assert found.shape == (20, 20, 12)
    inner = found[1:-1]  # beyond the first and the last voxel's center it stays what it is
    np.testing.assert_allclose(np.diff(inner, axis=0), 0.3 * 1.5, atol=1e-4)
    np.testing.assert_allclose(np.diff(inner, axis=1), 0.2 * 1.5, atol=1e-4)
    np.testing.assert_allclose(np.diff(inner, axis=2), -0.1 * 1.5, atol=1e-4)


@pytest.mark.parametrize("spacing", [(4.0, 0.7, 2.5), (0.5, 2.0, 0.1)])
@pytest.mark.parametrize("axis", PLANES.values())
def test_the_planes_are_numpys_interpolation_along_each_axis_of_the_same_extent(axis, spacing):
    volume = RNG.random((5, 7, 2)).astype(np.float32)
    wanted = volume
    for along, mm in enumerate(spacing):
        length = volume.shape[along]
        count = max(1, round(length * mm / 1.5))
        places = (np.arange(count) + 0.5) * length / count - 0.5  # voxel centers, of grids of the same extent
        wanted = np.apply_along_axis(lambda row, p=places: np.interp(p, np.arange(len(row)), row), along, wanted)
    found = list(resampled_planes(volume, np.ones(volume.shape, bool), spacing, axis))
    np.testing.assert_allclose(np.stack(found, axis=axis), wanted, rtol=1e-5)


def test_planes_with_less_than_5_percent_of_body_are_left_out():
    body = np.zeros((5, 10, 10), bool)
    body[1, 0, :5] = True  # exactly 5 %
    body[2, 0, :4] = True
    body[3] = True
    volume = np.arange(5.0)[:, None, None] * np.ones((5, 10, 10))
    found = [plane[0, 0] for plane in resampled_planes(volume, body, (1.5, 1.5, 1.5), 0)]
    assert found == [1, 3]


def test_one_slice_is_a_volume_too():
    volume = RNG.random((1, 6, 6)).astype(np.float32)
    found = list(resampled_planes(volume, np.ones(volume.shape, bool), (3.0, 1.5, 1.5), 0))
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], volume[0])
