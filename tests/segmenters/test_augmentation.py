"""What the augmentation does with each of its draws, one at a time."""

import math

import pytest
import torch

from ctsynth.segmenters._augmentation import _affine, _gray_values, augment, cutmix
from ctsynth.trainable import Batch

SIDE = 64
SLICES = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
LABELS = torch.randint(17, (2, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


class GivenDraws:
    """Draws what it is given by name: the same in all slices, or a value for each."""

    def __init__(self, count=2, **values):
        self.count = count
        self.values = {"noise": NOISE} | {name.replace("_", " "): value for name, value in values.items()}

    def normal(self, name, shape):
        return torch.as_tensor(self.values[name]).expand(self.count, *shape)

    def uniform(self, name):
        return torch.as_tensor(self.values[name]).expand(self.count)


def moved(*draws, strength=1.0):
    """The batch with the first of the eight draws, the others 0."""
    rng = GivenDraws(augmentation=torch.tensor([*draws, *[0.0] * (8 - len(draws))]))
    return augment(Batch(SLICES, LABELS), rng, strength)


def test_a_slice_is_turned_scaled_and_shifted_by_what_is_drawn():
    """exp of the generator of similarities, and shifts of 4 % of the side, which is 2 long."""
    drawn = torch.tensor([[1.5, 0, 0, 0], [0, -1.2, 0, 0], [0.7, 1.1, 1.3, -0.4]])
    turn, grow = torch.tensor([[0.0, -0.13], [0.13, 0]]), 0.08 * torch.eye(2)
    wanted = torch.matrix_exp(drawn[:, :1, None] * turn + drawn[:, 1:2, None] * grow)
    torch.testing.assert_close(_affine(drawn), torch.cat([wanted, 0.08 * drawn[:, 2:, None]], dim=2))


def test_a_shift_by_whole_pixels_moves_both_and_air_and_background_follow():
    pixel = 2 / SIDE / 0.08  # in standard deviations
    image, labels = moved(0, 0, 2 * pixel, -pixel)
    torch.testing.assert_close(image[:, :, 1:, :-2], SLICES[:, :, :-1, 2:], rtol=0, atol=1e-5)
    assert torch.equal(labels[:, 1:, :-2], LABELS[:, :-1, 2:])
    assert labels.dtype == torch.int64
    for beyond in (image[:, 0, :1], image[:, 0, :, -2:]):
        torch.testing.assert_close(beyond, torch.full_like(beyond, -1))
    assert not labels[:, :1].any()
    assert not labels[:, :, -2:].any()


def test_a_quarter_turn_turns_both():
    image, labels = moved(1, strength=math.pi / 2 / 0.13)
    torch.testing.assert_close(image, SLICES.rot90(1, (2, 3)), rtol=0, atol=1e-4)
    assert torch.equal(labels, LABELS.rot90(1, (1, 2)))


def test_draws_beyond_two_standard_deviations_are_two_and_strength_multiplies_them():
    for sign in (1.0, -1.0):
        for one, other in (
            (moved(5 * sign, strength=0.5), moved(2 * sign, strength=0.5)),
            (moved(sign, strength=0.5), moved(0.5 * sign)),
        ):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
    assert not torch.equal(moved(2.0)[0], moved(1.9)[0])


UNIT = (SLICES + 1) / 2  # from 0.1 to 0.9
MEAN = UNIT.mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("drawn", "wanted"),
    [
        ((2.0, 0, 0, 0), UNIT ** math.exp(0.3)),
        ((-2.0, 0, 0, 0), UNIT ** math.exp(-0.3)),
        ((0, 1.0, 0, 0), MEAN + math.exp(0.1) * (UNIT - MEAN)),
        ((0, 0, -1.5, 0), UNIT - 0.075),
        ((0, 0, 0, 1.0), UNIT + 0.025 * NOISE),
        ((0, 0, 0, -2.0), UNIT + 0.05 * NOISE),
    ],
    ids=["gamma", "gamma below 1", "contrast", "brightness", "noise", "noise is as strong below 0"],
)
def test_gray_values_are_changed_by_each_draw_as_it_says(drawn, wanted):
    image = _gray_values(SLICES, torch.tensor([drawn] * 2, dtype=torch.float32), GivenDraws())
    torch.testing.assert_close(image, (2 * wanted - 1).clamp(-1, 1), rtol=0, atol=1e-6)
    torch.testing.assert_close(moved(0, 0, 0, 0, *drawn)[0], image, rtol=0, atol=1e-4)


def test_gray_values_stay_within_the_window():
    beyond, ends = 1.5 * SLICES / 0.8, (1.5 * SLICES / 0.8).clamp(-1, 1)
    for brightness in (2.0, -2.0):
        drawn = torch.tensor([[1.0, 1.0, brightness, 0.0]] * 2)
        image = _gray_values(beyond, drawn, GivenDraws())
        assert torch.equal(image, _gray_values(ends, drawn, GivenDraws()))
        assert image.abs().max() == 1


def test_cutmix_pastes_the_box_that_is_drawn():
    """A quarter of the slice: half its sides, about 3.6 of 8 rows and 3.6 of 16 columns, by pixel centers."""
    image = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 8, 16)
    labels = torch.arange(3).view(3, 1, 1).expand(3, 8, 16)
    rng = GivenDraws(
        3, cutmix=torch.tensor([0.1, 0.5, 0.4]), cutmix_area=0.25, cutmix_row=0.45, cutmix_column=0.225
    )
    mixed, mixed_labels = cutmix(image, labels, rng, 0.5)
    wanted = labels.clone()
    wanted[0, 2:6, :8] = 1
    wanted[2, 2:6, :8] = 0
    assert torch.equal(mixed_labels, wanted)
    assert torch.equal(mixed[:, 0], wanted.float())
