"""Spectral normalization, beside torch's hook, which SPADE and OASIS were published with."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm as hook

from ctsynth.networks.spectral_norm import spectral_norm

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


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


def test_spectral_norm_equals_torchs_hook_over_many_steps_and_in_eval_mode():
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


def test_power_iteration_runs_outside_autocast(monkeypatch):  # a CPU's leaves torch.mv alone, a GPU's does not
    seen, product = [], torch.mv
    monkeypatch.setattr(
        torch, "mv", lambda *args: (seen.append(torch.is_autocast_enabled("cpu")), product(*args))[1]
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectral_norm(conv())(torch.randn(1, 4, 8, 8))
    assert seen
    assert not any(seen)


def test_spectral_norm_adds_two_buffers_and_no_parameter():
    plain, normalized = conv(), spectral_norm(conv())
    assert len(list(normalized.parameters())) == len(list(plain.parameters()))
    assert {name.rsplit(".", 1)[1] for name, _ in normalized.named_buffers()} == {"u", "v"}
