from copy import deepcopy

import pytest
import torch
from small_runs import CPU, SMALL

from ctsynth.config import build
from ctsynth.methods import base
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch
from ctsynth.training.distributed import freeze_others

ADVERSARIAL = [name for name in base.method_names() if not base.find_method(name).samplers]


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_channels_last_equals_channels_first_up_to_rounding(name):
    cls = base.find_method(name)
    torch.manual_seed(0)
    model = cls(build(cls.Options, SMALL[name], name), num_classes=4, size=32)
    labels = torch.zeros(3, 32, 32, dtype=torch.int64)
    for row in range(3):
        labels[row, 6 : 18 + row, 8:24] = 1 + row
    batch = Batch(labels[:, None].float() / 2 - 0.8, labels)
    other = deepcopy(model).to(memory_format=torch.channels_last)

    def worked(model):
        for phase in model.phases():
            freeze_others(model, phase)
            model.zero_grad()
            torch.manual_seed(0)  # for dropout, which draws for itself
            terms = model.loss(phase.name, batch, draws())
            terms["loss"].backward()
            yield torch.stack(list(terms.values())).detach()
            yield torch.cat([p.grad.flatten() for p in phase.parameters if p.grad is not None])
        with torch.inference_mode():
            drawn = model.eval().generate(labels, rng=draws())
        yield drawn

    def draws():
        return BatchRNG.at([("step", row) for row in range(3)], CPU)

    found = list(zip(worked(model), worked(other), strict=True))
    assert len(found) == 5  # losses and gradient of two phases, and slices
    for plain, last in found:
        assert plain.norm() > 0
        assert (last - plain).norm() < 1e-3 * plain.norm()  # rounding may move values over a ReLU's kink
