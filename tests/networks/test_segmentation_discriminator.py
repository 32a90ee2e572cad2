import pytest
import torch
from torch import nn

from ctsynth.networks.segmentation_discriminator import SegmentationDiscriminator
from ctsynth.networks.spectral_norm import SpectralNorm

# Two 3 x 3 convolutions and, where a is not b, a 1 x 1: B(a, b) = (9ab + b) + (9bb + b) + (ab + b).
#   down: B(1, 128) + B(128, 128) + B(128, 256) + B(256, 256) + B(256, 512) + B(512, 512)
#       = 149_120 + 295_168 + 918_272 + 1_180_160 + 3_671_552 + 4_719_616
#   up: B(512, 512) + B(1024, 256) + B(512, 256) + B(512, 128) + B(256, 128) + B(256, 64)
#       = 4_719_616 + 3_212_032 + 1_901_312 + 803_200 + 475_520 + 200_896
#   the last: 64 * 18 + 18
DOWN, UP, LAST = 10_933_888, 11_312_576, 1170


def test_parameters_of_one_channel_and_17_classes():
    network = SegmentationDiscriminator(17)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert count == {"down": DOWN, "up": UP, "conv_out": LAST}
    assert sum(count.values()) == 22_247_634


def sides_and_channels(network, side):
    """Of what enters and leaves every convolution of 3 x 3, in the order in which they are used."""
    seen = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.register_forward_hook(
                lambda _, args, out: seen.append((out.shape[-1], args[0].shape[1], out.shape[1]))
            )
    with torch.no_grad():
        network(torch.zeros(1, 1, side, side))
    return seen


def test_sides_and_channels_follow_the_original_at_an_eighth_of_its_width():
    seen = sides_and_channels(SegmentationDiscriminator(17, channels=16), 64)
    down = [(64, 1, 16), (32, 16, 16), (16, 16, 32), (8, 32, 32), (4, 32, 64), (2, 64, 64)]
    up = [(2, 64, 64), (4, 128, 32), (8, 64, 32), (16, 64, 16), (32, 32, 16), (64, 32, 8)]
    assert seen[::2] == down + up
    assert seen[1::2] == [(side, out, out) for side, _, out in down + up]


@pytest.mark.parametrize(("levels", "side"), [(1, 2), (3, 8), (3, 24), (5, 64)])
def test_every_pixel_is_judged_whatever_the_number_of_levels(levels, side):
    network = SegmentationDiscriminator(5, channels=4, levels=levels)
    assert network(torch.randn(2, 1, side, side)).shape == (2, 6, side, side)


def test_every_convolution_but_the_last_has_a_spectral_norm():
    network = SegmentationDiscriminator(5, channels=4)
    normed = {
        name: any(isinstance(part, SpectralNorm) for part in module.modules())
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert [name for name, has in normed.items() if not has] == ["conv_out"]
    assert len(normed) == 12 * 2 + 8 + 1  # eight blocks change the width
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in network.modules())


def test_the_initial_judgment_is_uniform_over_the_classes():
    torch.manual_seed(0)
    chances = SegmentationDiscriminator(5, channels=16)(torch.randn(2, 1, 64, 64)).softmax(1)
    torch.testing.assert_close(chances, torch.full_like(chances, 1 / 6), atol=0.02, rtol=0)


def test_a_judgment_depends_on_its_own_slice_only():
    torch.manual_seed(0)
    network, x = SegmentationDiscriminator(5, channels=8).eval(), torch.randn(3, 1, 64, 64)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))
    assert (network(x)[0] - network(x)[1]).abs().max() > 1e-5


def test_each_training_pass_runs_one_power_iteration_and_an_evaluation_pass_none():
    torch.manual_seed(0)
    network, x = SegmentationDiscriminator(5, channels=4, levels=3), torch.randn(1, 1, 8, 8)
    first, second = network(x), network(x)
    assert not torch.equal(first, second)
    for _ in range(300):
        network(x)
    network.eval()
    assert torch.equal(network(x), network(x))
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module is not network.conv_out:
            largest = torch.linalg.matrix_norm(module.weight.flatten(1), ord=2)
            assert largest.item() == pytest.approx(1, abs=1e-2)
