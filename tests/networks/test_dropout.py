import pytest
import torch
from small_runs import CPU

from ctsynth.networks.dropout import Dropout, seed_dropout
from ctsynth.randomness import BatchRNG

RATE = 0.2
KEYS = [("train", 0, "denoiser", n) for n in range(3)]
SIDE = 200
ERROR = 4 / SIDE  # four standard errors of a mean over SIDE^2 numbers of unit variance, and of a correlation


class Net(torch.nn.Module):
    def __init__(self, rate=RATE):
        super().__init__()
        self.first, self.second = Dropout(rate), Dropout(rate)

    def masks(self, keys=KEYS, side=SIDE):
        """(2 layers, B, side, side): what is left of ones."""
        seed_dropout(self, BatchRNG.at(keys, CPU))
        ones = torch.ones(len(keys), 1, side, side)
        return torch.stack([self.first(ones), self.second(ones)])[:, :, 0]


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    for mask in Net().masks().flatten(0, 1):
        assert set(mask.unique().tolist()) == {0, 1 / (1 - RATE)}
        assert mask.mean().item() == pytest.approx(1, abs=ERROR * (RATE / (1 - RATE)) ** 0.5)
        for neighbors in (mask[1:] * mask[:-1], mask[:, 1:] * mask[:, :-1]):
            assert neighbors.mean().item() == pytest.approx(1, abs=ERROR)


def test_slices_layers_and_steps_have_unrelated_masks():
    net = Net()
    later = [(*key[:-1], key[-1] + 3) for key in KEYS]
    masks = torch.cat([net.masks(), net.masks(later)]).flatten(2).flatten(0, 1)
    correlations = torch.corrcoef(masks) - torch.eye(len(masks))
    assert correlations.abs().max() < ERROR


def test_a_slices_mask_is_the_same_in_every_batch_and_leaves_torchs_generator_alone():
    net, before = Net(), torch.get_rng_state()
    whole = net.masks()
    assert torch.equal(net.masks(KEYS[2:0:-1]), whole[:, [2, 1]])
    assert torch.equal(net.masks(), whole)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_does_not_depend_on_the_memory_format():
    net, x = Net(), torch.randn(3, 4, 6, 5)
    seed_dropout(net, BatchRNG.at(KEYS, CPU))
    last = net.first(x.to(memory_format=torch.channels_last))
    assert torch.equal(net.first(x), last)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_dropout_without_a_rate_or_in_evaluation_drops_nothing():
    for net in (Net(0.0), Net().eval()):
        assert torch.equal(net.masks(), torch.ones(2, 3, SIDE, SIDE))
