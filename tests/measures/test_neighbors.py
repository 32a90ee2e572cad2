import numpy as np
import pytest

from ctsynth.measures import neighbors
from ctsynth.measures.neighbors import density_and_coverage, nearest, radii, thumbnails

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("side", [32, 50, 64, 256])
def test_a_thumbnail_keeps_the_mean_and_averages_noise_away(side):
    slices = np.clip(0.5 + 0.1 * RNG.standard_normal((2, side, side)), 0, 1)
    found = thumbnails(slices)
    assert found.shape == (2, 1024)
    assert found.mean() / 255 == pytest.approx(slices.mean(), abs=0.003)
    assert found.std() / 255 < 0.1 * 32 / side + 0.005
    assert (thumbnails(np.full((1, side, side), 0.2)) == 51).all()


def test_slices_smaller_than_a_thumbnail_stay():
    slices = RNG.random((3, 16, 16))
    assert (thumbnails(slices) == np.rint(255 * slices).reshape(3, -1)).all()


def test_no_slices_have_no_thumbnails():
    assert thumbnails(np.empty((0, 64, 48))).shape == (0, 32 * 32)


def test_the_nearest_is_that_of_all_distances_in_blocks_too(monkeypatch):
    queries, others = RNG.random((30, 7)), RNG.random((41, 7))
    distances = np.sqrt(((queries[:, None] - others) ** 2).mean(axis=2))
    for rows in (2048, 9):
        monkeypatch.setattr(neighbors, "_ROWS", rows)
        found, place = nearest(queries, others)
        np.testing.assert_allclose(found, distances.min(axis=1))
        assert (place == distances.argmin(axis=1)).all()


def test_of_equally_near_ones_the_nearest_is_the_first_in_blocks_too(monkeypatch):
    others = np.tile(RNG.integers(0, 256, (5, 7)), (3, 1))
    monkeypatch.setattr(neighbors, "_ROWS", 4)
    found, place = nearest(others, others)
    assert found.tolist() == [0] * 15
    assert place.tolist() == [0, 1, 2, 3, 4] * 3


def test_a_vector_that_is_in_the_set_is_at_distance_0():
    others = RNG.integers(0, 256, (100, 1024)).astype(np.uint8)
    found, place = nearest(others[[7, 93]], others)
    assert found.tolist() == [0, 0]
    assert place.tolist() == [7, 93]


def test_the_radius_reaches_to_the_kth_neighbor():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert radii(points, 1).tolist() == [1, 1, 4, 16]
    assert radii(points, 2).tolist() == [9, 4, 9, 36]
    assert np.isinf(radii(points, 4)).all()


def test_the_radii_are_those_of_all_sorted_distances_and_never_negative(monkeypatch):
    points = RNG.normal(size=(300, 3))
    squares = np.sort(((points[:, None] - points) ** 2).sum(axis=2), axis=1)
    monkeypatch.setattr(neighbors, "_ROWS", 110)
    for k in (1, 5, 20):
        np.testing.assert_allclose(radii(points, k), squares[:, k])
    twins = radii(np.tile(RNG.normal(size=(100, 64)), (2, 1)), 1)
    assert (twins >= 0).all()
    np.testing.assert_allclose(twins, 0, atol=1e-10)


def test_a_ball_holds_what_lies_on_its_border():
    real, synthetic = np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([[2.0], [5.0], [12.0]])
    density, covered = density_and_coverage(real, synthetic, 1)  # balls: 0 +- 1, 1 +- 1, 3 +- 2, 7 +- 4
    assert density.tolist() == [2, 2, 0]
    assert covered.tolist() == [False, True, True, True]


def test_density_and_coverage_of_one_distribution_have_their_expected_values(monkeypatch):
    """1, and 1 - (n - 1)...(n - k) / ((2 n - 1)...(2 n - k)) (Naeem et al. 2020, Sec. 3.2)."""
    n, k = 150, 5
    monkeypatch.setattr(neighbors, "_ROWS", 70)
    found = [
        density_and_coverage(rng.normal(size=(n, 8)), rng.normal(size=(n, 8)), k)
        for rng in map(np.random.default_rng, range(60))
    ]
    expected = 1 - np.prod([(n - j) / (2 * n - j) for j in range(1, k + 1)])
    assert np.mean([density.mean() for density, _ in found]) == pytest.approx(1, abs=0.05)
    assert np.mean([covered.mean() for _, covered in found]) == pytest.approx(expected, abs=0.01)


def test_one_mode_alone_is_dense_and_covers_its_own():
    real = np.concatenate([RNG.normal(size=(100, 4)), RNG.normal(size=(100, 4)) + 50])
    density, covered = density_and_coverage(real, real[:100] + 0.01, 5)
    assert density.mean() == pytest.approx(1, abs=0.3)
    assert covered[:100].mean() > 0.99
    assert not covered[100:].any()
