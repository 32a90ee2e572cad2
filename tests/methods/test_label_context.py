"""``label_context``: the label maps of neighboring slices beside a slice's own, for any method of slices."""

import json

import numpy as np
import pytest
import torch
from small_runs import CPU, OPTIONS, SMALL, fit
from small_stores import both_splits

from ctsynth.config import build
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.randomness import BatchRNG
from ctsynth.sampling.batches import SamplingConfig, draw
from ctsynth.trainable import Batch, StepFake
from ctsynth.training import checkpoint

METHODS = [name for name in base.method_names() if name != "edm-volume"]


def make(name, context=1, **options):
    cls = base.find_method(name)
    torch.manual_seed(0)
    given = SMALL.get(name, OPTIONS) | {"label_context": context} | options
    return cls(build(cls.Options, given, name), num_classes=4, size=32)


def labels_of(count):
    return torch.randint(4, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0))


def rng():
    return BatchRNG.at([("a", number) for number in range(2)], CPU)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_slices_learns_from_and_draws_with_it(name):
    model, labels = make(name), labels_of(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = Batch(torch.zeros(2, 1, 32, 32), labels, fake=StepFake())
    for phase in model.phases():
        loss = model.loss(phase.name, batch, rng())["loss"]
        assert loss.isfinite()
    model.eval()
    run = Sampler(steps=2) if model.samplers else None
    with torch.no_grad():
        drawn = model.generate(labels, rng=rng(), sampler=run)
        above = torch.cat([labels[:, :2], (labels[:, 2:] + 1) % 4], dim=1)
        other = model.generate(above, rng=rng(), sampler=run)
    assert drawn.shape == (2, 1, 32, 32)
    assert (drawn - other).abs().max() > 1e-4  # the slice above is read


@pytest.mark.parametrize("name", ["ddpm-concat", "ddpm-edge", "oasis"])
def test_a_run_with_it_trains_and_draws(tmp_path, small_case, name):
    """A volume's bytes do not depend on the batch, and its neighbors count."""
    store = both_splits(tmp_path / "out", small_case, size=32)
    run = fit(store, tmp_path / "run", name, options={"label_context": 1}, lr=3e-2, ema=0.1, iterations=2)
    trained = checkpoint.load(checkpoint.find(run), CPU)
    assert json.loads((run / "config.json").read_text())["options"]["label_context"] == 1
    masks = np.asarray(store.subjects("test")[0].mask())
    sampler = Sampler(steps=2) if trained.method.samplers else None
    one, two = (
        draw(trained, masks, 5.0, "a", SamplingConfig(sampler=sampler, batch_size=size)) for size in (4, 3)
    )
    assert np.abs(one.astype(int) - two).max() <= 1


def test_without_label_context_a_network_is_unchanged():
    plain, none = make("ddpm-mask", context=0), make("ddpm-mask", context=0)
    assert plain.state_dict().keys() == none.state_dict().keys()
    assert make("ddpm-concat", context=0).unet.conv_in.in_channels == 4 + 4 * 4
    assert make("ddpm-concat", context=2).unet.conv_in.in_channels == 4 + 5 * 4 * 4


def test_edm_volume_sees_its_neighbors_anyway():
    with pytest.raises(UsageError, match="this one sees its neighbors"):
        make("edm-volume")
