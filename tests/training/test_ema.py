"""The averaged weights, and the statistics of batch normalization that belong to them."""

import pytest
import torch
from small_runs import CPU
from torch import nn

from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch
from ctsynth.training.ema import EMA


class Net(nn.Module):
    """A layer, its norm and dropout, drawing from labels as a method does."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.dropout = nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5)

    def predict(self, batch, rng):
        return self.dropout(self.norm(self.conv(batch.labels[:, None].float())))


def batches(count=4):
    rng = torch.Generator().manual_seed(0)
    labels = [torch.randint(9, (2, 8, 8), generator=rng) for _ in range(count)]
    return [(Batch(torch.zeros(2, 1, 8, 8), these), BatchRNG.at([("a",)], CPU)) for these in labels]


def test_the_average_warms_up_and_then_decays_by_its_rate():  # min(decay, (1 + step) / (10 + step))
    model = Net()
    ema = EMA(model, 0.9)
    start = model.conv.weight.detach().clone()
    with torch.no_grad():
        model.conv.weight.add_(1)
    ema.update(model, 1)
    torch.testing.assert_close(ema.model.conv.weight, start + 1 - 2 / 11)
    ema.update(model, 1000)
    torch.testing.assert_close(ema.model.conv.weight, start + 1 - 0.9 * 2 / 11)


def test_statistics_are_those_of_the_averaged_weights():
    ema = EMA(Net(), 0.9)
    labels = torch.cat([batch.labels for batch, _ in batches()])
    ema.take_statistics(batches())
    through = ema.model.conv(labels[:, None].float())
    torch.testing.assert_close(ema.model.norm.running_mean, through.mean((0, 2, 3)))
    each = torch.stack([part.var((0, 2, 3)) for part in through.split(2)])
    torch.testing.assert_close(ema.model.norm.running_var, each.mean(0))
    assert not any(module.training for module in ema.model.modules())
    assert ema.model.norm.momentum == 0.1


def test_taking_statistics_forgets_those_before_and_is_repeatable():
    ema = EMA(Net(), 0.9)
    ema.model.norm.running_mean.fill_(100)
    ema.take_statistics(batches())
    first = ema.model.norm.running_mean.clone()
    ema.take_statistics(batches())
    assert torch.equal(ema.model.norm.running_mean, first)
    assert first.abs().max() < 50


@pytest.mark.parametrize(("module", "found"), [(Net(), True), (nn.GroupNorm(1, 3), False)])
def test_only_batch_normalization_has_statistics(module, found):
    assert EMA(module, 0.9).has_statistics is found
