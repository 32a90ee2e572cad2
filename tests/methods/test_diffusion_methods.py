import pytest
import torch
from trained import CPU, OPTIONS

from ctsynth.batch import Batch
from ctsynth.config import build
from ctsynth.diffusion.samplers import SamplerConfig
from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.randomness import Draws

METHODS = ["ddpm-concat", "ddpm-mask", "ddpm-edge"]


def make(name, size=16, **options):
    cls = base.find(name)
    guided = {} if name == "ddpm-concat" else {"encoder_channels": 8}
    torch.manual_seed(0)
    return cls(build(cls.Options, OPTIONS | guided | options, name), num_classes=4, size=size)


def batch_of(count=4, size=16):
    labels = torch.zeros(count, size, size, dtype=torch.int64)
    for row in range(count):
        labels[row, 3 : 9 + row, 4:12] = 1 + row % 3
    return Batch(labels[:, None].float() / 2 - 0.8, labels)


def draws(count, name="step", first=0):
    return Draws.at([(name, at) for at in range(first, first + count)], CPU)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("encoding", ["onehot", "index"])
def test_gradients_reach_every_parameter(name, encoding):
    model = make(name, mask_encoding=encoding, attention=[4])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(4):  # layers that begin at zero block those before them in the first steps
        optimizer.zero_grad()
        model.loss("denoiser", batch_of(), draws(4, first=4 * step))["loss"].backward()
        optimizer.step()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert unreached == []


@pytest.mark.parametrize("name", METHODS)
def test_the_first_loss_is_that_of_saying_zero_and_training_lowers_it(name):
    model = make(name, prediction="v", schedule="cosine")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):  # at the same timesteps and noise each time
        optimizer.zero_grad()
        terms = model.loss("denoiser", batch_of(8), draws(8))
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["mse"].item())
    assert losses[0] == pytest.approx(0.6, abs=0.4)  # E[v^2] lies between that of x_0 and that of unit noise
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("sampler", ["dpm++", "ddim", "ddpm"])
def test_a_mask_is_encoded_once_for_all_steps(name, sampler):
    model, calls = make(name).eval(), {"conditioner": 0, "unet": 0}
    for part in calls:
        getattr(model, part).register_forward_hook(lambda *_, part=part: calls.update({part: calls[part] + 1}))
    image = model.generate(batch_of().labels, rng=draws(4), sampler=SamplerConfig(name=sampler, steps=7))
    assert calls == {"conditioner": 1, "unet": 7}
    assert image.shape == (4, 1, 16, 16)
    assert image.abs().max() <= 1


@pytest.mark.parametrize("name", METHODS)
def test_the_label_map_matters_and_its_batch_does_not(name):
    model = make(name).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    labels = batch_of().labels
    together = model.generate(labels, rng=draws(4), sampler=SamplerConfig(steps=3))
    alone = model.generate(labels[2:3], rng=draws(1, first=2), sampler=SamplerConfig(steps=3))
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=0)
    other = model.generate(labels.roll(1, 0), rng=draws(4), sampler=SamplerConfig(steps=3))
    assert (together - other).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("ddpm-concat", "channels", 0),
        ("ddpm-concat", "channels", 14),
        ("ddpm-concat", "multipliers", []),
        ("ddpm-concat", "multipliers", [1, 0]),
        ("ddpm-concat", "res_blocks", 0),
        ("ddpm-concat", "heads", 3),
        ("ddpm-concat", "heads", 0),
        ("ddpm-concat", "dropout", 1.5),
        ("ddpm-concat", "patch", 0),
        ("ddpm-concat", "timesteps", 20),
        ("ddpm-concat", "prediction", "x0"),
        ("ddpm-concat", "encoder_channels", 8),
        ("ddpm-mask", "encoder_channels", 0),
        ("ddpm-mask", "multipliers", [1]),  # no level is downsampled, so no mask would be read
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(name, option, value):
    cls = base.find(name)
    with pytest.raises(UsageError, match=option):
        build(cls.Options, {option: value}, name)


def test_a_size_that_the_levels_do_not_divide_is_refused():
    with pytest.raises(UsageError, match=r"18 x 18 .* must divide by 4"):
        make("ddpm-concat", size=18)


def test_only_early_epsilon_samples_carry_a_caution():
    assert "early" in make("ddpm-mask").caution(1000)
    assert make("ddpm-mask").caution(50_000) == ""
    assert make("ddpm-mask", prediction="v").caution(1000) == ""
