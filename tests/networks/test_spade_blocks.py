"""SPADE's block and its generator; equality with the official code: tests/methods."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrize

from ctsynth.networks.spade import SPADE, SPADEGenerator, SPADEResBlock, xavier_conv

CLASSES = 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def segmap_of(labels):
    return F.one_hot(labels, CLASSES).movedim(-1, 1).float()


def random_segmap(count=2, size=16):
    return segmap_of(torch.randint(0, CLASSES, (count, size, size)))


# Initial weights


@pytest.mark.parametrize(("before", "after", "kernel"), [(64, 128, 3), (128, 64, 4), (256, 256, 1)])
def test_convolutions_begin_with_xaviers_deviation_times_a_fiftieth(before, after, kernel):
    layer = xavier_conv(before, after, kernel)
    wanted = 0.02 * (2 / (kernel**2 * (before + after))) ** 0.5
    assert layer.weight.std().item() == pytest.approx(wanted, rel=0.02)
    assert not layer.bias.any()


def test_gamma_and_beta_begin_as_two_layers_of_their_own():
    block = SPADEResBlock(64, 64, 32)
    layer = block.norm_in.gamma_beta
    wanted = 0.02 * (2 / (9 * (128 + 64))) ** 0.5  # 128 + 128 were it one layer
    for half in layer.weight.chunk(2):
        assert half.std().item() == pytest.approx(wanted, rel=0.02)
    assert block.norm_in.shared.weight.std().item() == pytest.approx(0.02 * (2 / (9 * 160)) ** 0.5, rel=0.02)
    assert not layer.bias.any()
    assert not block.norm_in.shared.bias.any()


# SPADE


def spade(channels=4):
    return SPADE(nn.BatchNorm2d(channels, affine=False), channels, CLASSES, hidden=8)


@torch.no_grad()
def test_without_gamma_and_beta_spade_is_its_norm():
    layer, x = spade(), torch.randn(2, 4, 16, 16)
    layer.gamma_beta.weight.zero_()
    layer.gamma_beta.bias.zero_()
    output = layer(x, random_segmap())
    torch.testing.assert_close(output.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.var((0, 2, 3), correction=0), torch.ones(4), atol=1e-3, rtol=0)


@torch.no_grad()
def test_gamma_scales_and_beta_shifts():  # Park et al. 2019, Eq. 1, in the official 1 + gamma
    layer, x = spade(), torch.randn(2, 4, 16, 16)
    layer.gamma_beta.weight.zero_()
    gamma, beta = torch.randn(4), torch.randn(4)
    layer.gamma_beta.bias.copy_(torch.cat([gamma, beta]))
    wanted = layer.norm(x) * (1 + gamma)[:, None, None] + beta[:, None, None]
    torch.testing.assert_close(layer(x, random_segmap()), wanted)


@torch.no_grad()
def test_a_pixels_class_affects_pixels_up_to_two_away():
    layer, x = spade().eval(), torch.randn(1, 4, 16, 16)
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    other = labels.clone()
    other[0, 7, 9] = 1
    changed = (layer(x, segmap_of(labels)) != layer(x, segmap_of(other))).any(1)[0]
    rows, columns = changed.nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 9, 7, 11)


@torch.no_grad()
def test_the_label_map_is_resized_by_its_nearest_pixels():
    layer, x = spade().eval(), torch.randn(1, 4, 8, 8)
    segmap = random_segmap(1)
    torch.testing.assert_close(layer(x, segmap), layer(x, segmap[..., ::2, ::2]))


# The generator


def test_the_shortcut_is_learned_only_where_the_width_changes():
    for before, after in ((4, 4), (8, 4)):
        block = SPADEResBlock(before, after, CLASSES)
        assert (block.skip is not None) == (block.norm_skip is not None) == (before != after)
        assert block(torch.randn(2, before, 8, 8), random_segmap(size=8)).shape == (2, after, 8, 8)


@torch.no_grad()
def test_a_block_whose_last_convolution_is_zero_is_its_shortcut():
    block, x = SPADEResBlock(4, 4, CLASSES).eval(), torch.randn(2, 4, 8, 8)
    parametrize.remove_parametrizations(block.conv_out, "weight")
    block.conv_out.weight.zero_()
    assert torch.equal(block(x, random_segmap(size=8)), x)


def test_spectral_norm_is_on_the_blocks_convolutions_only():
    generator = SPADEGenerator(CLASSES, channels=2, multipliers=(2, 1), blocks=(1, 2))
    names = {
        n for n, m in generator.named_modules() if isinstance(m, nn.Conv2d) and parametrize.is_parametrized(m)
    }
    assert names == {
        "levels.0.0.conv_in", "levels.0.0.conv_out",
        "levels.1.0.conv_in", "levels.1.0.conv_out",
        "levels.1.1.conv_in", "levels.1.1.conv_out", "levels.1.1.skip",
    }  # fmt: skip


@pytest.mark.parametrize(("levels", "size"), [(1, (5, 7)), (3, (12, 20)), (6, (64, 32))])
def test_each_level_doubles_the_side(levels, size):
    generator = SPADEGenerator(CLASSES, channels=2, multipliers=(1,) * levels, blocks=(1,) * levels)
    assert generator.factor == 2 ** (levels - 1)
    segmap = segmap_of(torch.randint(0, CLASSES, (2, *size)))
    assert generator(segmap).shape == (2, 1, *size)


def test_parameters_of_spades_and_oasiss_at_17_classes():
    def count(channels, **options):
        return sum(parameter.numel() for parameter in SPADEGenerator(channels, **options).parameters())

    assert count(17) == 92_477_761  # derived in tests/methods/test_spade.py
    # OASIS: one block of 1024 to 1024 channels less, and 64 channels of noise more:
    # 9 64 128 for each of the 2 6 + 4 SPADEs that are left, 9 64 1024 for the first convolution
    block = 2 * (9 * 17 * 128 + 128 + 2 * (9 * 128 + 1) * 1024) + 2 * (9 * 1024 + 1) * 1024
    noise = 9 * 64 * (128 * 16 + 1024)
    assert count(81, blocks=(1,) * 6) == 92_477_761 - block + noise == 70_608_705
