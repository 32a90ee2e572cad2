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
    """HU that labels and position determine: each class, its borders blurred, and a slope."""
    hu = np.array([-1000.0, 110, 60, -40])[mask]
    halo = blurred((mask == 1).astype(np.float32), BLURS[1])
    rows = np.linspace(-1, 1, mask.shape[1])[:, None]
    return hu + 80 * halo + 10 * rows + 4 * np.linspace(-1, 1, len(mask))[:, None, None]


def fitted(*masks, noise=0.0):
    regression = Regression(4)
    for mask in masks:
        regression.add(painted(mask) + noise * RNG.standard_normal(mask.shape), mask)
    return regression.solve()


def test_an_image_determined_by_labels_and_position_has_no_residual():
    expected = fitted(*map(blocks, range(5)))
    unseen = blocks(9)
    assert np.abs(expected.residual(painted(unseen), unseen)).max() < 0.5  # HU


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
    one.add(painted(mask), mask, range(0, 6, 2))
    other.add(painted(mask), mask)
    same = [r.solve().residual(painted(mask), mask) for r in (one, other)]
    np.testing.assert_allclose(*same, atol=0.5)


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
