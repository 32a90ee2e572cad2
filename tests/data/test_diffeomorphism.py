"""Laws of flows: closed forms, an inverse, a Jacobian that stays above its bound."""

import numpy as np
import pytest

from ctsynth.data.diffeomorphism import RMS_MM, SMALLEST_JACOBIAN, Deformation

EXTENT = (150.0, 120.0, 80.0)  # mm


def random(seed, strength=1.0):
    return Deformation.random(EXTENT, np.random.default_rng(seed), strength)


def points(margin=0.0, count=20_000):
    """Random points at least so many mm within the volume."""
    share = np.random.default_rng(0).uniform(size=(3, count))
    return margin + share * (np.array(EXTENT)[:, None] - 2 * margin)


def test_the_flow_of_a_constant_velocity_is_a_translation():
    velocity = np.ones((3, 9, 8, 7)) * np.array([3.0, -2.0, 1.0])[:, None, None, None]
    assert Deformation.of_velocity(velocity).displacement == pytest.approx(velocity)


def test_the_flow_of_a_linear_velocity_is_its_exponential():  # dx/dt = a x, so phi(x) = exp(a) x
    rate = np.array([0.1, -0.2, 0.15])[:, None, None, None]
    places = 5.0 * (np.indices((21, 21, 21)) - 10)  # mm from the fixed point
    moved = Deformation.of_velocity(rate * places).displacement
    inner = (slice(None), *[slice(4, -4)] * 3)  # what flows in from outside is not known
    assert moved[inner] == pytest.approx(np.expm1(rate) * places[inner], abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_the_inverse_composes_to_the_identity_within_a_voxel(seed):
    forward = random(seed)
    inverse = Deformation.of_velocity(-forward.velocity)
    inside = points(margin=25)
    for one, other in ((forward, inverse), (inverse, forward)):
        there = inside + one.at(inside)
        back = there + other.at(there)
        assert np.linalg.norm(back - inside, axis=0).max() < 0.3  # mm; the finest voxels of a CT have 0.5


@pytest.mark.parametrize(("seed", "strength"), [(0, 1), (1, 1), (2, 1), (3, 5), (4, 8)])
def test_no_small_region_keeps_less_than_its_share(seed, strength):
    deformation = random(seed, strength)
    places, step = points(margin=1), 1e-3
    columns = [
        (deformation.at(places + step * axis[:, None]) - deformation.at(places - step * axis[:, None]))
        / (2 * step)
        for axis in np.eye(3)
    ]
    jacobian = np.linalg.det(np.stack(columns, axis=-1).transpose(1, 0, 2) + np.eye(3))
    assert jacobian.min() >= SMALLEST_JACOBIAN


def test_without_the_bound_so_strong_a_velocity_would_fold_space():
    strong = random(4, 8)
    tripled = Deformation.of_velocity(3 * strong.velocity)
    assert tripled.smallest_jacobian() < SMALLEST_JACOBIAN <= strong.smallest_jacobian()


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_displacement_has_the_protocols_root_mean_square(strength):
    moved = random(5, strength).displacement
    found = np.sqrt([(moved[:2] ** 2).sum(0).mean(), (moved[2] ** 2).mean()])
    assert found == pytest.approx(strength * np.array(RMS_MM), rel=0.05)


def test_the_same_draw_gives_the_same_map_and_zero_strength_none():
    assert np.array_equal(random(1).displacement, random(1).displacement)
    assert not np.array_equal(random(1).displacement, random(2).displacement)
    assert not random(1, 0.0).displacement.any()
