import numpy as np
import pytest

from ctsynth.measures.expected import BLURS, Regression, blurred

RNG = np.random.default_rng(0)


def blocks(seed=0, shape=(6, 48, 48)):
    """A body with two organs whose places differ with the seed."""
    row, column = np.random.default_rng(seed).integers(12, 26, 2)
    mask = np.zeros(shape, np.uint8)
    mask[:, 6:42, 6:42] = 3
    mask[1:5, row : row + 8, column - 4 : column + 6] = 1
    mask[:, 30:40, 30:40] = 2
    return mask


def painted(mask):
    """HU that labels and position determine: each class, its borders blurred, and slopes."""
    hu = np.array([-1000.0, 110, 60, -40])[mask]
    halo = blurred((mask == 1).astype(np.float32), BLURS[1])
    rows, columns = (np.linspace(-1, 1, side) for side in mask.shape[1:])
    heights = np.linspace(-1, 1, len(mask)) if len(mask) > 1 else np.zeros(1)
    return hu + 80 * halo + 10 * rows[:, None] - 6 * columns + 4 * heights[:, None, None]


def fitted(*masks, noise=0.0):
    regression = Regression(4)
    for mask in masks:
        regression.add(painted(mask) + noise * RNG.standard_normal(mask.shape), mask)
    return regression.solve()


def test_an_image_determined_by_labels_and_position_has_no_residual():
    expected = fitted(*map(blocks, range(5)))
    for slices in (6, 2, 1):
        unseen = blocks(9)[:slices]
        assert np.abs(expected.residual(painted(unseen), unseen)).max() < 0.5  # HU
    assert expected.of_position[:3] == pytest.approx([10, -6, 4], abs=0.1)
    assert not expected.of_labels[:, 0].any()  # outside the body nothing is fitted


def test_noise_is_left_and_what_noise_there_was_in_training_is_not():
    expected = fitted(*map(blocks, range(5)), noise=20.0)
    unseen = blocks(9)
    noise = 20 * RNG.standard_normal(unseen.shape)
    residual = expected.residual(painted(unseen) + noise, unseen)
    body = unseen != 0
    assert np.sqrt(np.mean((residual - noise)[body] ** 2)) < 2
    assert not residual[~body].any()


def test_slices_can_be_chosen_and_keep_their_height():
    mask = blocks()
    one, other = Regression(4), Regression(4)
    hu = painted(mask)
    other.add(hu, mask)
    one.add(np.where(np.arange(6)[:, None, None] % 2, np.nan, hu), mask, range(0, 6, 2))
    same = [r.solve().residual(hu, mask) for r in (one, other)]
    np.testing.assert_allclose(*same, atol=0.5)


def test_the_coefficients_are_those_of_ridge_regression_whose_constant_has_no_penalty():
    """Of one class, in the two middle slices, at heights of -h and h: h y / (h^2 + 1e-6), and the mean."""
    h = 1 / 1001
    mask, hu = np.ones((1002, 4, 4), np.uint8), np.zeros((1002, 4, 4))
    hu[500], hu[501] = 15, 25
    regression = Regression(2)
    regression.add(hu, mask, [500, 501])
    found = regression.solve()
    assert found.of_position == pytest.approx([0, 0, 5 * h / (h**2 + 1e-6), 20], rel=1e-3, abs=1e-3)
    assert np.abs(found.of_labels).max() < 1e-3


def test_an_unseen_class_and_a_single_slice_give_finite_values():
    expected = fitted(*map(blocks, range(3)))
    mask = blocks(9)[:1]
    assert np.isfinite(expected.residual(painted(mask), mask)).all()
    regression = Regression(6)
    regression.add(painted(mask), mask)
    assert np.isfinite(regression.solve().of_labels).all()


def test_without_a_body_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="body"):
        Regression(4).solve()


def test_the_blur_keeps_a_constant_and_is_a_gaussian():
    assert blurred(np.full((3, 9, 7), 2, np.float32), 4.0) == pytest.approx(2)
    impulse = np.zeros((65, 65), np.float32)
    impulse[32, 32] = 1
    found = blurred(impulse, 4.0)
    rows = np.arange(65) - 32
    assert (found * rows[:, None] ** 2).sum() == pytest.approx(16, rel=0.02)
