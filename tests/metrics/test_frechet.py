"""Distances of sets of features in closed form, at their edges, and of sets that are read in parts."""

import warnings

import numpy as np
import pytest
from scipy import linalg

from ctsynth.features import frechet
from ctsynth.features.frechet import Stacked, frechet_distance, kernel_distance

RNG = np.random.default_rng(0)


def exactly(variances, n, d, mean=0.0, seed=0):
    """A set (n, d) whose sample covariance has these variances along fixed directions, and no others."""
    rank = len(variances)
    scores = np.random.default_rng(seed).normal(size=(n, rank))
    scores, _ = np.linalg.qr(scores - scores.mean(axis=0))
    directions, _ = np.linalg.qr(np.random.default_rng(99).normal(size=(d, rank)))
    return mean + np.sqrt(n - 1) * scores * np.sqrt(variances) @ directions.T


def features(n, d, seed, shift=0.0):
    """Not negative, correlated, of very different scales, as those of a network."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(d, d)) * np.exp(-np.arange(d) / (d / 5))[:, None]
    return np.maximum(rng.normal(size=(n, d)) @ mixing + shift, 0).astype(np.float32)


def by_matrix_root(one, other):
    one, other = one.astype(np.float64), other.astype(np.float64)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the product is singular
        root = linalg.sqrtm(first @ second).real
    step = one.mean(axis=0) - other.mean(axis=0)
    return step @ step + np.trace(first) + np.trace(second) - 2 * np.trace(root)


@pytest.mark.parametrize(("n", "d", "rank"), [(300, 20, 20), (12, 40, 11), (300, 20, 5)])
def test_frechet_of_commuting_covariances_is_the_sum_of_squared_differences_of_deviations(n, d, rank):
    a, b = np.linspace(0.1, 5, rank), np.linspace(3, 0.01, rank)
    found = frechet_distance(exactly(a, n, d), exactly(b, n + 3, d, mean=0.5, seed=1))
    assert found == pytest.approx(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2) + d * 0.25, rel=1e-7)


@pytest.mark.parametrize(("n1", "n2"), [(30, 40), (64, 64), (65, 65), (30, 400), (400, 300)])
def test_frechet_is_that_of_the_matrix_root_above_and_below_as_many_things_as_features(n1, n2):
    one, other = features(n1, 64, 0), features(n2, 64, 1, shift=0.3)
    assert frechet_distance(one, other) == pytest.approx(by_matrix_root(one, other), rel=1e-5)
    assert frechet_distance(other, one) == pytest.approx(frechet_distance(one, other), rel=1e-9)


@pytest.mark.parametrize("n", [20, 300])
def test_frechet_of_a_set_with_itself_is_0_and_never_below(n):
    one = features(n, 64, 0)
    scale = np.trace(np.cov(one, rowvar=False))
    assert 0 <= frechet_distance(one, one) < 1e-9 * scale
    assert 0 <= frechet_distance(one, one[::-1]) < 1e-9 * scale


@pytest.mark.parametrize("n", [20, 300])
def test_frechet_of_a_shifted_set_is_the_shift_squared(n):
    one = features(n, 64, 0).astype(np.float64)
    assert frechet_distance(one + 1000, one + 1000.5) == pytest.approx(64 * 0.25, rel=1e-6)


def test_constant_and_duplicated_features_do_not_break_the_frechet_distance():
    one, other = (features(300, 32, seed) for seed in (0, 1))
    for each in (one, other):
        each[:, 3] = 0
        each[:, 5] = each[:, 4]
    keep = [column for column in range(32) if column not in (3, 4, 5)]
    doubled = [np.column_stack([each[:, keep], np.sqrt(2) * each[:, 4]]) for each in (one, other)]
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(*doubled), rel=1e-6)


def test_the_covariance_of_many_rows_is_summed_in_parts(monkeypatch):
    one, other = features(300, 16, 0), features(300, 16, 1)
    whole = frechet_distance(one, other)
    monkeypatch.setattr(frechet, "_ROWS", 7)
    assert frechet_distance(one, other) == pytest.approx(whole, rel=1e-9)


def test_too_few_to_have_a_covariance():
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(np.ones((1, 4)), np.ones((9, 4)))
    with pytest.raises(ValueError, match="at least 4"):
        kernel_distance(np.ones((9, 4)), np.ones((3, 4)))


def test_the_kernel_distance_of_two_normal_distributions_is_that_of_their_moments():
    """(xy + 1)^3 compares the first three moments, weighted 3, 3 and 1."""
    rng = np.random.default_rng(0)
    mean, deviation, size = kernel_distance(rng.normal(0, 1, (20_000, 1)), rng.normal(0.5, 1, (20_000, 1)))
    assert size == 1000
    assert mean == pytest.approx(3 * 0.5**2 + 3 * 0.25**2 + 1.625**2, rel=0.05)
    assert 0 < deviation < mean


def test_the_kernel_distance_is_unbiased_where_the_frechet_distance_is_not():
    kernel, frechet = [], []
    for seed in range(20):
        one, other = (np.random.default_rng((seed, place)).normal(size=(60, 32)) for place in (0, 1))
        kernel.append(kernel_distance(one, other)[0])
        frechet.append(frechet_distance(one, other))
    assert abs(np.mean(kernel)) < 3 * np.std(kernel) / np.sqrt(20)
    assert np.mean(frechet) > 30 * np.std(frechet) / np.sqrt(20)


def test_a_small_set_gives_halves_of_itself():
    assert kernel_distance(features(24, 8, 0), features(31, 8, 1))[2] == 12


@pytest.mark.slow
@pytest.mark.parametrize("n", [500, 2500])
def test_the_distance_is_that_of_the_matrix_root_at_2048_features(n):
    one, other = features(n, 2048, 0), features(n, 2048, 1, shift=0.05)
    assert frechet_distance(one, other) == pytest.approx(by_matrix_root(one, other), rel=1e-3)


class Chosen:
    """A set that notes which rows are read of it."""

    def __init__(self, rows):
        self.rows, self.shape, self.chosen = rows, rows.shape, []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, which):
        self.chosen.append(which)
        return self.rows[which]


def test_a_stack_of_sets_is_their_concatenation_and_reads_only_those_that_are_asked_for():
    parts = [RNG.normal(size=(n, 3)).astype(np.float32) for n in (4, 1, 5, 2)]
    whole, seen = np.concatenate(parts), []
    stack = Stacked([(len(one), lambda one=one: seen.append(len(one)) or one) for one in parts], 3)
    assert (len(stack), stack.shape) == (12, (12, 3))
    for rows in (slice(None), slice(3, 11), slice(4, 5), np.array([[11, 0, 4], [5, 9, 3]]), np.array([10])):
        np.testing.assert_array_equal(stack[rows], whole[rows])
    seen.clear()
    assert len(stack[4:10]) == 6
    assert seen == [1, 5]


@pytest.mark.parametrize("swap", [1, -1])
def test_two_things_are_enough_for_a_covariance_and_four_for_subsets(swap):
    two, five = np.array([[0.0, 0], [2, 0]]), RNG.normal(size=(5, 2))
    # on a line from a to b all variance, |b - a|^2 / 2, is along it
    other = np.array([[1.0, 3], [1, 4]])
    assert frechet_distance(*(two, other)[::swap]) == pytest.approx(3.5**2 + 2 + 0.5)
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(*(five[:1], five)[::swap])
    assert kernel_distance(*(five[:4], five)[::swap])[2] == 2
    with pytest.raises(ValueError, match="at least 4"):
        kernel_distance(*(five[:3], five)[::swap])


@pytest.mark.parametrize("swap", [1, -1])
def test_a_set_whose_features_depend_on_one_another_has_its_distance_from_one_whose_do_not(swap):
    variances = [0.0] * 6 + [1.0] * 6, np.linspace(0.1, 3, 12)
    sets = exactly(variances[0], 40, 12), exactly(variances[1], 50, 12, seed=1)
    wanted = np.square(np.sqrt(variances[0]) - np.sqrt(variances[1])).sum()
    assert frechet_distance(*sets[::swap]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("n", "rows"), [(5, 5), (8, 8), (300, 8)])
def test_a_root_of_a_covariance_has_no_more_rows_than_there_are_things_or_features(n, rows):
    one = features(n, 8, 0)
    mean, root = frechet._deviations(one)
    assert root.shape == (rows, 8)
    np.testing.assert_allclose(mean, one.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(root.T @ root, np.cov(one, rowvar=False), atol=1e-5)


def test_the_kernel_distance_of_two_things_that_are_repeated_is_that_of_their_kernels():
    """Each subset has the same (x.x / d + 1)^3 + (y.y / d + 1)^3 - 2 (x.y / d + 1)^3."""
    x, y = np.array([1.0, 2, -1]), np.array([0.5, 1, 3])
    mean, deviation, _ = kernel_distance(np.tile(x, (7, 1)), np.tile(y, (9, 1)))
    assert mean == pytest.approx((6 / 3 + 1) ** 3 + (10.25 / 3 + 1) ** 3 - 2 * (-0.5 / 3 + 1) ** 3)
    assert deviation == pytest.approx(0, abs=1e-12)


def test_the_kernel_distance_reads_100_subsets_without_repetitions():
    one, other = Chosen(RNG.normal(size=(7, 5))), Chosen(RNG.normal(size=(9, 5)))
    assert kernel_distance(one, other)[2] == 3
    for each in (one, other):
        subsets = np.concatenate(each.chosen)
        assert subsets.shape == (100, 3)
        assert (np.diff(np.sort(subsets, axis=1)) > 0).all()
