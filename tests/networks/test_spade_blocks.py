"""SPADE's block, its generator, and spectral normalization; equality with the official code: tests/methods."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils import spectral_norm as hook

from ctsynth.networks.spade import SPADE, SPADEGenerator, SPADEResBlock, xavier_conv
from ctsynth.networks.spectral_norm import spectral_norm

CLASSES = 3

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def segmap_of(labels):
    return F.one_hot(labels, CLASSES).movedim(-1, 1).float()


def random_segmap(count=2, size=16):
    return segmap_of(torch.randint(0, CLASSES, (count, size, size)))


# Spectral normalization


def conv(**options):
    return nn.Conv2d(4, 6, 3, padding=1, **options)


@torch.no_grad()
def test_many_iterations_divide_the_weight_by_its_largest_singular_value():
    layer = spectral_norm(conv())
    original = layer.parametrizations.weight.original
    for _ in range(200):
        normalized = layer.weight
    largest = torch.linalg.matrix_norm(original.flatten(1), 2)
    torch.testing.assert_close(normalized, original / largest, rtol=1e-4, atol=1e-6)


def hooked_like(ours, theirs):
    """torch's hook on the same weight, u and v."""
    theirs.load_state_dict(ours.state_dict())
    theirs, ours = hook(theirs), spectral_norm(ours)
    with torch.no_grad():
        theirs.weight_u.copy_(ours.parametrizations.weight[0].u)
        theirs.weight_v.copy_(ours.parametrizations.weight[0].v)
    return ours, theirs


def test_it_equals_torchs_hook_over_many_steps_and_in_eval_mode():
    ours, theirs = hooked_like(conv(), conv())
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (ours, theirs)]
    for step in range(6):
        x, train = torch.randn(2, 4, 8, 8), step != 3
        outputs = [layer.train(train)(x) for layer in (ours, theirs)]
        torch.testing.assert_close(*outputs)
        for output, optimizer in zip(outputs, optimizers, strict=True):
            optimizer.zero_grad()
            output.square().mean().backward()
            optimizer.step()
        norm = ours.parametrizations.weight
        torch.testing.assert_close(norm.original.grad, theirs.weight_orig.grad)
        torch.testing.assert_close((norm[0].u, norm[0].v), (theirs.weight_u, theirs.weight_v))


@pytest.mark.parametrize("first_in_training", [True, False])
def test_two_uses_before_one_backward_pass_keep_their_own_u_and_v(first_in_training):
    x, together = torch.randn(2, 4, 8, 8), spectral_norm(conv())
    apart = copy.deepcopy(together)
    first, second = together.train(first_in_training)(x), together.train()(x)
    (first.square().mean() + second.sin().mean()).backward()
    apart.train(first_in_training)(x).square().mean().backward()
    apart.train()(x).sin().mean().backward()
    weights = [layer.parametrizations.weight for layer in (together, apart)]
    torch.testing.assert_close(weights[0].original.grad, weights[1].original.grad)
    assert torch.equal(weights[0][0].u, weights[1][0].u)


@torch.no_grad()
def test_eval_mode_leaves_u_and_v_alone():
    layer = spectral_norm(conv()).eval()
    before = [buffer.clone() for buffer in layer.buffers()]
    layer(torch.randn(1, 4, 8, 8))
    assert all(torch.equal(b, a) for b, a in zip(before, layer.buffers(), strict=True))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def test_bf16_autocast_changes_no_digit_of_the_normalized_weight(device):
    plain = spectral_norm(conv()).to(device)
    low, x = copy.deepcopy(plain), torch.randn(2, 4, 8, 8, device=device)
    for _ in range(5):
        plain(x)
        with torch.autocast(device, dtype=torch.bfloat16):
            assert low(x).dtype == torch.bfloat16
            assert low.weight.dtype == torch.float32
        assert plain.weight.dtype == torch.float32  # one iteration more, as above
    for (name, ours), theirs in zip(low.state_dict().items(), plain.state_dict().values(), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs), name


def test_its_products_are_taken_outside_autocast(monkeypatch):  # a CPU's leaves torch.mv alone, a GPU's does not
    seen, product = [], torch.mv
    monkeypatch.setattr(
        torch, "mv", lambda *args: (seen.append(torch.is_autocast_enabled("cpu")), product(*args))[1]
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectral_norm(conv())(torch.randn(1, 4, 8, 8))
    assert seen
    assert not any(seen)


def test_it_adds_two_buffers_and_no_parameter():
    plain, normalized = conv(), spectral_norm(conv())
    assert len(list(normalized.parameters())) == len(list(plain.parameters()))
    assert {name.rsplit(".", 1)[1] for name, _ in normalized.named_buffers()} == {"u", "v"}


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
def test_a_pixels_class_is_felt_two_pixels_away_and_no_farther():
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
