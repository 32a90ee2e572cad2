import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from ctsynth.measures.organs import deviation, histograms, wasserstein

RNG = np.random.default_rng(0)


def test_histograms_count_the_voxels_of_each_class_by_whole_hu():
    hu = np.array([[[-160.0, -159.6, 239.4]], [[300, -500, 9.6]]])
    mask = np.array([[[1, 1, 1]], [[0, 0, 2]]])
    found = histograms(hu, mask, low=-160, bins=401, num_classes=4)
    assert found.sum(axis=1).tolist() == [2, 3, 1, 0]
    assert [np.flatnonzero(row).tolist() for row in found] == [[0, 400], [0, 399], [170], []]
    assert found[1, 0] == 2


def test_the_distance_is_scipys():
    one, other = RNG.normal(100, 15, 500).round(), RNG.normal(110, 25, 300).round()
    counts = [np.bincount(values.astype(int), minlength=300) for values in (one, other)]
    assert wasserstein(*counts) == pytest.approx(wasserstein_distance(one, other))


def test_a_shift_is_the_distance_whatever_the_sizes():
    counts = np.zeros((2, 50), int)
    counts[0, 5:15], counts[1, 12:22] = 3, 7
    assert wasserstein(counts[0], counts[1]) == pytest.approx(7)
    assert np.isnan(wasserstein(counts, np.zeros_like(counts))).all()
    assert wasserstein(np.eye(5, dtype=int)[1], np.eye(5, dtype=int)[4]) == 3  # of one voxel each


def test_the_deviation_is_numpys_and_takes_two_things():
    values = RNG.normal(90, 12, (20, 3))
    found = deviation(values.sum(axis=0), (values**2).sum(axis=0), np.full(3, 20.0))
    np.testing.assert_allclose(found, values.std(axis=0))
    assert np.isnan(deviation(np.array([3.0]), np.array([9.0]), np.array([1.0]))).all()
    assert deviation(np.array([3.0]), np.array([5.0]), np.array([2.0])).tolist() == [0.5]  # of 1 and 2


def test_equal_things_do_not_deviate_but_for_rounding():
    values = np.tile(RNG.normal(90, 12, 1000), (7, 1))  # sums of squares come out below the square of the sum
    found = deviation(values.sum(axis=0), (values**2).sum(axis=0), np.full(1000, 7.0))
    np.testing.assert_allclose(found, 0, atol=1e-4)
