"""Images read through a deformation: closed forms, the inverse, and the labels' own places."""

import numpy as np
import pytest

from ctsynth.data.diffeomorphism import Deformation, extent_of
from ctsynth.data.warp import warped, warped_image

SHAPE, SPACING = (60, 50, 24), (2.0, 2.5, 5.0)


def random(seed):
    return Deformation.random(extent_of(SHAPE, SPACING), np.random.default_rng(seed), 1.0)


def places():
    """(3, X, Y, Z): the voxels' centers, mm from the first one's."""
    return np.indices(SHAPE) * np.array(SPACING)[:, None, None, None]


def inner(margin):
    """The voxels at least so many mm within the volume."""
    extent = np.array(extent_of(SHAPE, SPACING))[:, None, None, None]
    return ((places() >= margin) & (places() <= extent - margin)).all(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_a_ramp_becomes_itself_at_phi(seed):  # linear interpolation of a linear function is exact
    slope, deformation = np.array([1.5, -2.0, 0.7]), random(seed)
    ramp = np.tensordot(slope, places(), 1).astype(np.float32)
    moved = places() + deformation.at(places())
    closed = np.tensordot(slope, moved, 1)
    within = ((moved >= 0) & (moved <= np.array(extent_of(SHAPE, SPACING))[:, None, None, None])).all(axis=0)
    assert within.mean() > 0.7
    assert warped_image(ramp, SPACING, deformation)[within] == pytest.approx(closed[within], abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_inverse_brings_an_image_back_within_a_voxel(seed):
    deformation = random(seed)
    inverse = Deformation.of_velocity(-deformation.velocity)
    there = [warped_image(part.astype(np.float32), SPACING, deformation) for part in places()]
    back = np.stack([warped_image(part, SPACING, inverse) for part in there])
    away = np.abs(back - places()) / np.array(SPACING)[:, None, None, None]
    assert away[:, inner(margin=25)].max() < 1


@pytest.mark.parametrize("seed", range(3))
def test_no_region_keeps_less_than_three_tenths_of_its_volume(seed):
    deformation = random(seed)
    u = np.stack([warped_image(part.astype(np.float64), SPACING, deformation) for part in places()])
    gradients = np.stack([np.stack(np.gradient(part, *SPACING)) for part in u])[:, :, inner(margin=25)]
    assert deformation.smallest_jacobian() >= 0.3
    assert np.linalg.det(gradients.transpose(2, 0, 1)).min() > 0.28  # central differences of voxels


def test_an_image_of_labels_without_interpolation_is_the_warped_labels():
    labels = (np.random.default_rng(0).uniform(size=SHAPE) > 0.5).astype(np.uint8)
    shift = np.array([4.0, -5.0, 10.0])[:, None, None, None]  # whole voxels
    deformation = Deformation.of_velocity(np.ones((3, 27, 28, 27)) * shift)
    assert np.array_equal(warped_image(labels, SPACING, deformation), warped(labels, SPACING, deformation)[0])


def test_beyond_the_volume_the_border_goes_on_for_image_and_labels():
    hu = np.full(SHAPE, 40, np.int16)
    hu[0], hu[:, :, -1] = -1000, 300
    away = Deformation.of_velocity(np.ones((3, 27, 28, 27)) * np.array([-60.0, 0, 0])[:, None, None, None])
    made = warped_image(hu, SPACING, away)
    assert made.dtype == np.int16
    assert (made[:30, :, :-1] == -1000).all()
    assert (made[:, :, -1] == 300).all()


def test_half_way_between_two_values_an_integer_image_is_rounded():
    hu = np.zeros(SHAPE, np.int16)
    hu[30:] = 101
    half = Deformation.of_velocity(np.ones((3, 27, 28, 27)) * np.array([1.0, 0, 0])[:, None, None, None])
    assert warped_image(hu, SPACING, half)[28:31, 5, 5].tolist() == [0, 50, 101]
