import pytest
import torch
from small_runs import CPU, OPTIONS

from ctsynth.config import build
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch

METHODS = {
    "ddpm-concat": {},
    "ddpm-mask": {"encoder_channels": 8},
    "ddpm-edge": {"encoder_channels": 8},
    "sdm": {"head_channels": 8},
}
"""What each takes beside the options of them all, small."""


def make(name, size=16, **options):
    cls = base.find_method(name)
    torch.manual_seed(0)
    return cls(build(cls.Options, OPTIONS | METHODS[name] | options, name), num_classes=4, size=size)


def make_random(name, **options):
    """With weights that say something of every input."""
    model = make(name, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def batch_of(count=4, size=16):
    labels = torch.zeros(count, size, size, dtype=torch.int64)
    for row in range(count):
        labels[row, 3 : 9 + row, 4:12] = 1 + row % 3
    return Batch(labels[:, None].float() / 2 - 0.8, labels)


def draws(count, name="step", first=0):
    return BatchRNG.at([(name, at) for at in range(first, first + count)], CPU)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("encoding", ["onehot", "index"])
def test_gradients_reach_every_parameter(name, encoding):
    model = make(name, mask_encoding=encoding, attention=[4], dropout=0.1)
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
    assert losses[-1] < 0.7 * losses[0]  # measured: 0.39 to 0.47


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("sampler", ["dpm++", "ddim", "ddpm"])
def test_a_mask_is_encoded_once_for_all_steps(name, sampler, guidance):
    model, calls, batches = make(name, label_dropout=0.2).eval(), {"conditioner": 0, "unet": 0}, set()
    for part in calls:
        getattr(model, part).register_forward_hook(lambda *_, part=part: calls.update({part: calls[part] + 1}))
    model.unet.register_forward_hook(lambda _, args, __: batches.add(len(args[0])))
    run = Sampler(name=sampler, steps=7, guidance=guidance)
    image = model.generate(batch_of().labels, rng=draws(4), sampler=run)
    assert calls == {"conditioner": 1, "unet": 7}
    assert batches == {4 if guidance == 1 else 8}  # the null map costs nothing where it is not needed
    assert image.shape == (4, 1, 16, 16)
    assert image.abs().max() <= 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_the_slice_depends_on_its_label_map_and_not_on_the_batch(name, guidance):
    model, run = make_random(name, label_dropout=0.2), Sampler(steps=3, guidance=guidance)
    labels = batch_of().labels
    together = model.generate(labels, rng=draws(4), sampler=run)
    alone = model.generate(labels[2:3], rng=draws(1, first=2), sampler=run)
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=0)
    assert torch.equal(together, model.generate(labels, rng=draws(4), sampler=run))
    other = model.generate(labels.roll(1, 0), rng=draws(4), sampler=run)
    assert (together - other).abs().max() > 1e-3


def worked(model):
    """Losses by name, the gradient as one vector, and the slices of 20 evaluations."""
    model.zero_grad()
    batch = batch_of()
    terms = model.loss("denoiser", batch, draws(4))
    terms["loss"].backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    with torch.inference_mode():
        drawn = model.generate(batch.labels, rng=draws(4), sampler=Sampler(steps=20))
    return {name: term.detach() for name, term in terms.items()}, gradient, drawn


def make_alive(name, **options):
    """With weights that keep the size of what goes through them, in blocks too that would begin as nothing."""
    model = make(name, attention=[4], **options).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="linear")
    return model


KINDS = [{"prediction": "epsilon", "schedule": "linear"}, {"prediction": "v", "schedule": "cosine"}]

LOSS_BOUND, GRADIENT_BOUND, DRAWN_BOUND = 0.0045, 0.085, 0.01
"""Of bf16 against fp32: each loss, relative; the gradient's difference in its norm; a pixel of [-1, 1] on average.

One rounding of bf16 is 0.004. Measured of the four methods and two kinds, with AMX and without vectors, at most:
0.0014, 0.027, 0.0033; the bounds are three times as wide.
"""


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["prediction"])
def test_bf16_equals_fp32_up_to_rounding(name, kind):
    model = make_alive(name, **kind)
    terms, gradient, drawn = worked(model)
    with torch.autocast("cpu", torch.bfloat16):
        low_terms, low_gradient, low_drawn = worked(model)
        _, v = model.denoiser(batch_of().labels)(draws(4).normal("x", (1, 16, 16)), torch.full((4,), 500))
    assert v.dtype == torch.float32
    for term, value in low_terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(terms[term].item(), rel=LOSS_BOUND)
    assert (low_gradient - gradient).norm() < GRADIENT_BOUND * gradient.norm()
    assert low_drawn.dtype == torch.float32
    assert (low_drawn - drawn).abs().mean() < DRAWN_BOUND
    assert not torch.equal(low_gradient, gradient)


@pytest.mark.parametrize("name", METHODS)
def test_channels_last_equals_channels_first_up_to_rounding(name):
    model = make_alive(name, **KINDS[1])
    terms, gradient, drawn = worked(model)
    last_terms, last_gradient, last_drawn = worked(model.to(memory_format=torch.channels_last))
    for term, value in last_terms.items():
        assert value.item() == pytest.approx(terms[term].item(), rel=1e-5)
    assert (last_gradient - gradient).norm() < 1e-5 * gradient.norm()
    torch.testing.assert_close(last_drawn, drawn, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_label_dropout_hides_the_maps_of_the_slices_it_draws_and_no_others(name):
    model, batch = make_random(name, label_dropout=0.5), batch_of(8)
    dropped = draws(8).uniform("label dropout") < 0.5
    assert 0 < dropped.sum() < 8
    for row in range(8):
        labels = batch.labels.clone()
        labels[row] = batch.labels[row].T
        before, after = (
            model.loss("denoiser", Batch(batch.image, maps), draws(8))["loss"] for maps in (batch.labels, labels)
        )
        assert torch.equal(before, after) == dropped[row].item()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("patch", [1, 2])
def test_the_null_map_is_zeros_and_has_no_edges(name, patch):
    labels = batch_of(2).labels
    conditioner = make(name, patch=patch).conditioner
    inputs = []
    if hasattr(conditioner, "encoder"):
        conditioner.encoder.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    conditioning = conditioner(labels, torch.tensor([False, True]))
    read = [x for x in (conditioning.concat, conditioning.segmap, *inputs) if x is not None]
    assert read
    for channels in read:
        assert torch.count_nonzero(channels[0]) == 0 < torch.count_nonzero(channels[1])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_guidance_goes_on_from_the_null_prediction_in_equal_steps_and_keeps_the_variance(name, prediction):
    model = make_random(name, label_dropout=0.2, prediction=prediction)
    labels, x_t = batch_of().labels, draws(4).normal("x_t", (1, 16, 16))
    timesteps = torch.tensor([5, 90, 500, 800])
    with torch.no_grad():
        null, plain, guided = (model.denoiser(labels, scale)(x_t, timesteps) for scale in (0.0, 1.0, 1.5))
        others = model.denoiser(labels.roll(1, 0), 0.0)(x_t, timesteps)
    # x_0 is affine in the prediction, so guiding it is guiding the prediction
    torch.testing.assert_close(guided[0] - null[0], 1.5 * (plain[0] - null[0]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(null[0], others[0], rtol=0, atol=0)
    assert (plain[0] - null[0]).abs().amax() > 0.01
    torch.testing.assert_close(guided[1], plain[1])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("guidance", [0.0, 0.99, 1.5])
def test_guidance_needs_a_model_that_was_trained_without_label_maps_too(name, guidance):
    with pytest.raises(UsageError, match="label dropout") as refused:
        make(name).generate(batch_of().labels, rng=draws(4), sampler=Sampler(steps=2, guidance=guidance))
    assert "`set` label_dropout=0.2" in refused.value.hint


@pytest.mark.parametrize("guidance", [-0.5, float("nan"), float("inf")])
def test_an_invalid_guidance_is_refused(guidance):
    with pytest.raises(UsageError, match=r"`guidance` must be 0 or more, not"):
        Sampler(guidance=guidance)


def test_label_dropout_is_refused_where_zeros_are_a_class():
    with pytest.raises(UsageError, match="onehot"):
        make("ddpm-concat", mask_encoding="index", label_dropout=0.1)


def test_attention_at_a_missing_resolution_is_reported(caplog):
    make("sdm", attention=[8, 4])  # patches of 2 pixels: the sides are 8 and 4
    assert caplog.messages == []
    make("sdm", attention=[16, 8, 5])
    (message,) = caplog.messages
    assert message == "attention: no feature map has a side of 16 or 5; at slices of 16 x 16 theirs are 8, 4"


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
        ("ddpm-concat", "head_channels", 32),  # heads says so already
        ("sdm", "heads", 4),
        ("sdm", "head_channels", 0),
        ("sdm", "head_channels", 48),
        ("ddpm-concat", "dropout", 1.5),
        ("ddpm-concat", "label_dropout", 1.0),
        ("sdm", "label_dropout", -0.1),
        ("ddpm-concat", "patch", 0),
        ("ddpm-concat", "timesteps", 20),
        ("ddpm-concat", "prediction", "x0"),
        ("ddpm-concat", "encoder_channels", 8),
        ("ddpm-mask", "encoder_channels", 0),
        ("ddpm-mask", "multipliers", [1]),  # no level is downsampled, so no mask would be read
    ],
)
def test_an_invalid_option_is_refused_by_name(name, option, value):
    cls = base.find_method(name)
    with pytest.raises(UsageError, match=option):
        build(cls.Options, {option: value}, name)


def test_a_size_that_the_levels_do_not_divide_is_refused():
    with pytest.raises(UsageError, match=r"18 x 18 .* must divide by 4"):
        make("ddpm-concat", size=18)


def test_only_early_epsilon_samples_carry_a_caution():
    assert "early" in make("ddpm-mask").caution(1000)
    assert make("ddpm-mask").caution(50_000) == ""
    assert make("ddpm-mask", prediction="v").caution(1000) == ""
