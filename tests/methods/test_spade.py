"""SPADE: equality with the official code, and laws.

spade.npz was computed once with NVlabs/SPADE (its Pix2PixModel at commit fecacc9, torch 2.13 on a CPU, one
thread): 5 classes, ngf = ndf = 8, no instance map, 3 slices of 64 x 64, norm_D spectralinstance, and the default
norm_G, n_layers_D, num_D and losses. The sync_batchnorm package that it lacks was replaced by torch's
BatchNorm2d, conv_img by one that gives one channel, and torchvision's pretrained VGG-19 by its layout with
weights of `stream`, for which slices were repeated to three channels. All weights, u and v are those of `stream`
under the official names. `output` is with batch statistics, `evaluated` with the running ones, u and v after
that; both in float32 and before the tanh, one pixel in 4 by 4. Losses and gradients are in float64, for a kink
of VGG's that rounding flips changes norms by 1e-3. The discriminator's follow the generator's on the same
networks, without a step in between. Norms are of gradients, by sorted official names.
"""

import copy
import hashlib
import logging
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gan_models import CLASSES, batch_of, draws, learn, make_gan, stream

from ctsynth import weights
from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.networks.conditioning import one_hot
from ctsynth.networks.spade import SPADE
from ctsynth.networks.vgg import STAGES, VGG19
from ctsynth.trainable import Batch
from ctsynth.training.distributed import freeze_others

make = partial(make_gan, "spade")


# VGG-19, with weights of our own


@pytest.fixture(scope="module")
def vgg_state():
    """Under torchvision's names, up to relu5_1, and of one later layer."""
    state, at, before = {}, 0, 3
    for stage in STAGES:
        for width in stage:
            shape = (width, before, 3, 3)
            state[f"features.{at}.weight"] = stream(f"features.{at}.weight", shape) * (2 / (9 * before)) ** 0.5
            state[f"features.{at}.bias"] = stream(f"features.{at}.bias", (width,)) * 0.1
            at, before = at + 2, width
        at += 1
    return state | {"classifier.6.bias": torch.zeros(1000)}


@pytest.fixture(scope="module")
def vgg_file(vgg_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / weights.TABLE["vgg19"].file
    torch.save(vgg_state, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def with_vgg(vgg_file, monkeypatch):
    path, digest = vgg_file
    monkeypatch.setenv("CTSYNTH_WEIGHTS", str(path.parent))
    monkeypatch.setitem(weights.TABLE, "vgg19", replace(weights.TABLE["vgg19"], sha256=digest))
    return path


# Equality with the official code

LAYERS = {
    "generator.conv_in": "G.fc",
    "generator.levels.0.0": "G.head_0",
    "generator.levels.1.0": "G.G_middle_0",
    "generator.levels.1.1": "G.G_middle_1",
    **{f"generator.levels.{2 + number}.0": f"G.up_{number}" for number in range(4)},
    "generator.conv_out": "G.conv_img",
    **{
        f"discriminator.scales.{scale}.layers.{layer}": f"D.discriminator_{scale}.model{layer}"
        for scale in range(2)
        for layer in range(5)
    },
}
PARTS = {
    "norm_in": "norm_0", "norm_out": "norm_1", "norm_skip": "norm_s",
    "conv_in": "conv_0", "conv_out": "conv_1", "skip": "conv_s", "shared": "mlp_shared.0",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0.u": "weight_u", "parametrizations.weight.0.v": "weight_v",
}  # fmt: skip


def official(name):
    """The official names of what is one tensor of ours, in the order in which it joins them."""
    layer = next(ours for ours in LAYERS if name.startswith(f"{ours}."))
    rest = name.removeprefix(layer)
    for ours, theirs in PARTS.items():
        rest = rest.replace(f".{ours}", f".{theirs}")
    if layer.startswith("discriminator") and ("weight_" in rest or layer.endswith(".4")):
        rest = f".0{rest}"  # theirs has a Sequential around it
    joined = "gamma_beta" in rest
    return [LAYERS[layer] + rest.replace("gamma_beta", part) for part in ("mlp_gamma", "mlp_beta")[: 1 + joined]]


def pieces(named):
    """(official name, its part of our tensor)"""
    for name, tensor in named:
        names = official(name)
        yield from zip(names, tensor.chunk(len(names)), strict=True)


@torch.no_grad()
def fill(model):
    for name, tensor in pieces(model.named_parameters()):
        tensor.copy_(0.1 * stream(name, tensor.shape))
    for name, tensor in pieces(item for item in model.named_buffers() if item[0].endswith((".u", ".v"))):
        drawn = stream(name, tensor.shape)
        tensor.copy_(drawn / drawn.norm())
    return model


def golden_batch(size=64, count=3):
    blocks = (count, size // 8, size // 8)
    labels = torch.from_numpy(np.random.RandomState(zlib.crc32(b"labels")).randint(0, CLASSES, blocks))
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return Batch(torch.tanh(stream("image", (count, 1, size, size))), labels)


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("spade.npz"), allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def filled(with_vgg):
    return fill(make(64, channels=8, discriminator_channels=8, vgg="yes"))


@torch.no_grad()
def test_the_generator_equals_the_official_one(golden, filled):
    segmap = one_hot(golden_batch().labels, CLASSES)
    for name in ("output", "evaluated"):
        torch.testing.assert_close(filled.generator(segmap)[..., 1::4, 2::4], golden[name], rtol=1e-4, atol=1e-4)
        filled.eval()
    assert (golden["output"] - golden["evaluated"]).abs().max() > 0.1


FACTORS = {"features": 10.0, "vgg": 10.0}
"""The official terms are weighted."""


def test_loss_terms_equal_the_official_ones(golden, filled):
    for phase in ("generator", "discriminator"):
        terms = filled.loss(phase, golden_batch(), draws(3))
        for name in set(terms) - {"loss"}:
            theirs = golden[name].float() / FACTORS.get(name, 1.0)
            torch.testing.assert_close(terms[name], theirs, rtol=1e-4, atol=0)


def test_gradients_equal_the_official_ones(golden, filled, monkeypatch):
    batch = golden_batch()
    batch = replace(batch, image=batch.image.double())
    filled.double()._vgg = (VGG19(weights.load("vgg19")).double(),)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr("ctsynth.methods.spade.one_hot", lambda labels, n: one_hot(labels, n).double())
    for phase in filled.phases():
        freeze_others(filled, phase)
        filled.loss(phase.name, batch, draws(3))["loss"].backward()
        part = getattr(filled, phase.name)
        gradients = dict(pieces((f"{phase.name}.{n}", p.grad) for n, p in part.named_parameters()))
        norms = torch.stack([gradients[name].norm() for name in sorted(gradients)])
        torch.testing.assert_close(norms, golden[f"{phase.name}_norms"], rtol=1e-8, atol=1e-12)


# Its size


def test_parameters_at_256_pixels_and_17_classes():
    def spade(channels):  # 17 to 128 channels, then to gamma and beta
        return 9 * 17 * 128 + 128 + 2 * (9 * 128 + 1) * channels

    def block(before, after):
        middle = min(before, after)
        skip = spade(before) + before * after if before != after else 0
        convolutions = (9 * before + 1) * middle + (9 * middle + 1) * after
        return spade(before) + spade(middle) + convolutions + skip

    widths = [(1024, 1024)] * 3 + [(1024, 512), (512, 256), (256, 128), (128, 64)]
    ends = (9 * 17 + 1) * 1024 + (9 * 64 + 1)
    model = make(256, num_classes=17, channels=64, discriminator_channels=64)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert count["generator"] == ends + sum(block(*width) for width in widths) == 92_477_761
    # two of 16 (18 64 + 64 128 + 128 256 + 256 512 + 512 1) weights and 64 + 1 biases
    assert count["discriminator"] == 2 * (2_779_136 + 65) == 5_558_402


@pytest.mark.parametrize("size", [32, 64, 96])
def test_slices_come_out_at_the_size_of_their_label_maps(size):
    model, batch = make(size), batch_of(2, size)
    image = model.generate(batch.labels, rng=draws(2))
    assert image.shape == (2, 1, size, size)
    assert image.abs().max() <= 1
    for phase in model.phases():
        assert model.loss(phase.name, batch, draws(2))["loss"].isfinite()


def test_fewer_multipliers_take_smaller_sides():
    model = make(20, multipliers=[4, 2, 1])
    assert [len(blocks) for blocks in model.generator.levels] == [1, 2, 1]
    assert model.generate(torch.zeros(1, 20, 20, dtype=torch.int64), rng=draws(1)).shape == (1, 1, 20, 20)


@pytest.mark.parametrize(("said", "hidden"), [({}, 128), ({"hidden": 8}, 8)])
def test_every_spade_reads_the_label_map_by_as_many_hidden_channels(said, hidden):
    generator = make(**said).generator
    blocks = [module for module in generator.modules() if isinstance(module, SPADE)]
    assert len(blocks) == 7 * 2 + 4  # four blocks change the width
    assert {(block.shared.out_channels, block.gamma_beta.in_channels) for block in blocks} == {(hidden, hidden)}


@pytest.mark.parametrize("size", [16, 40, 250])
def test_a_size_that_does_not_halve_five_times_is_refused(size):
    with pytest.raises(UsageError, match=rf"{size} x {size} .* divide by 32"):
        make(size)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("channels", 0),
        ("hidden", 0),
        ("discriminator_channels", 0),
        ("multipliers", []),
        ("multipliers", [2, 0]),
        ("feature_weight", -1.0),
        ("vgg_weight", -1.0),
        ("vgg", "maybe"),
    ],
)
def test_an_invalid_option_is_refused_by_name(option, value):
    with pytest.raises(UsageError, match=option):
        make(**{option: value})


def test_the_judges_pad_by_two_and_only_normalized_layers_lack_a_bias():
    judge = make().discriminator.scales[0]
    outputs = judge(torch.zeros(1, CLASSES + 1, 32, 32))
    assert [output.shape[-1] for output in outputs] == [17, 9, 5, 6, 7]
    biased = [name for name, _ in judge.named_parameters() if name.endswith("bias")]
    assert biased == ["layers.0.0.bias", "layers.4.bias"]


# Training


@pytest.mark.parametrize(
    ("ttur", "rates", "betas"), [(True, (2.5e-4, 1e-3), (0.0, 0.9)), (False, (5e-4, 5e-4), (0.5, 0.999))]
)
def test_ttur_slows_the_generator_and_speeds_the_discriminators(ttur, rates, betas):
    phases = list(make(ttur=ttur).phases())
    assert [phase.name for phase in phases] == ["generator", "discriminator"]
    assert tuple(phase.lr for phase in phases) == rates
    assert {phase.betas for phase in phases} == {betas}


def test_gradients_reach_every_parameter_of_the_phase_and_none_of_another(with_vgg):
    model = make(vgg="yes")
    for phase in model.phases():
        model.zero_grad()
        freeze_others(model, phase)
        model.loss(phase.name, batch_of(), draws(4))["loss"].backward()
        for name, parameter in model.named_parameters():
            if not name.startswith(phase.name):
                assert parameter.grad is None, name
            elif parameter.ndim > 1:  # a bias before a normalization has a gradient of zero
                assert parameter.grad.abs().max() > 0, name
            else:
                assert parameter.grad is not None, name


def test_the_generator_loss_has_no_gradient_to_the_real_slice(with_vgg):
    model, batch = make(vgg="yes"), batch_of()
    image = batch.image.clone().requires_grad_()
    loss = model.loss("generator", replace(batch, image=image), draws(4))["loss"]
    (gradient,) = torch.autograd.grad(loss, image)
    assert not gradient.any()


def test_the_loss_is_the_sum_of_its_weighted_terms(with_vgg):
    model = make(vgg="yes", feature_weight=3.0, vgg_weight=7.0)
    terms = model.loss("generator", batch_of(), draws(4))
    total = terms["adversarial"] + 3 * terms["features"] + 7 * terms["vgg"]
    torch.testing.assert_close(terms["loss"], total)
    terms = model.loss("discriminator", batch_of(), draws(4))
    torch.testing.assert_close(terms["loss"], terms["real"] + terms["fake"])


@pytest.mark.parametrize(
    ("logits", "fake", "real"), [((0.0, 0.0), 1, 1), ((0.5, -0.5), 1, 1), ((2.0, 1.5), 2.75, 0)]
)
def test_the_loss_is_the_hinge_of_each_scales_logits(logits, fake, real):
    model = make()
    with torch.no_grad():
        for scale, logit in zip(model.discriminator.scales, logits, strict=True):
            scale.layers[-1].weight.zero_()
            scale.layers[-1].bias.fill_(logit)
    terms = model.loss("discriminator", batch_of(), draws(4))
    assert (terms["fake"].item(), terms["real"].item()) == pytest.approx((fake, real))
    adversarial = model.loss("generator", batch_of(), draws(4))["adversarial"]
    assert adversarial.item() == pytest.approx(-sum(logits) / 2)


def test_a_fake_that_is_the_real_slice_has_no_distance_from_it(with_vgg):
    model, batch = make(vgg="yes").eval(), batch_of()
    with torch.no_grad():
        same = replace(batch, image=model.generate(batch.labels, rng=draws(4)))
        other, equal = (model.loss("generator", one, draws(4)) for one in (batch, same))
    for name in ("features", "vgg"):
        assert equal[name] < 1e-3 * other[name]


def test_training_both_brings_the_fake_to_the_real():
    model, batch = make(16, channels=8, multipliers=[2, 1]), batch_of(4, 16)

    def distance():
        return (model.generate(batch.labels, rng=draws(4)) - batch.image).abs().mean().item()

    before = distance()
    learn(model, ("generator", "discriminator"), batch, steps=30)
    assert distance() < 0.5 * before


def test_the_discriminators_learn_to_tell_real_from_fake():
    rows = learn(make(), ("discriminator",), batch_of(), steps=20)
    assert rows[0]["loss"] == pytest.approx(2, abs=0.2)  # saying zero
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


def test_bf16_keeps_the_losses_in_float32_and_near(with_vgg):
    for phase in ("generator", "discriminator"):
        plain = make(vgg="yes").loss(phase, batch_of(2), draws(2))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = make(vgg="yes").loss(phase, batch_of(2), draws(2))
        for name, term in low.items():
            assert term.dtype == torch.float32
            torch.testing.assert_close(term, plain[name], rtol=0.03, atol=0.03)


@torch.no_grad()
def test_bf16_judgments_are_float32():
    batch = batch_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        judged = make()._judge(one_hot(batch.labels, CLASSES), batch.image, batch.image)
    assert {output.dtype for layers in judged for pair in layers for output in pair} == {torch.float32}


# VGG-19


def resolve(vgg):
    cls = base.find_method("spade")
    return cls.resolve(cls.Options(vgg=vgg)).vgg


def test_vgg_auto_goes_without_vgg_if_its_weights_are_missing_and_says_how_to_get_them(caplog):
    with caplog.at_level(logging.WARNING):
        assert resolve("auto") == "no"
    (message,) = caplog.messages
    assert "without VGG-19" in message
    assert weights.remedy("vgg19") in message


def test_vgg_auto_and_yes_use_vgg_if_its_weights_are_there_and_no_does_not(with_vgg, caplog):
    assert [resolve(vgg) for vgg in ("auto", "yes", "no")] == ["yes", "yes", "no"]
    assert not caplog.messages


def test_vgg_no_warns_of_nothing(caplog):
    assert resolve("no") == "no"
    assert not caplog.messages


def test_yes_without_weights_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match="is in none of") as caught:
        resolve("yes")
    assert caught.value.hint == weights.remedy("vgg19")


def test_other_weights_are_not_vggs(with_vgg, tmp_path, monkeypatch):
    torch.save({"features.0.bias": torch.zeros(64)}, tmp_path / with_vgg.name)
    monkeypatch.setenv("CTSYNTH_WEIGHTS", str(tmp_path))
    assert resolve("auto") == "no"
    with pytest.raises(UsageError, match="SHA-256"):
        resolve("yes")


def test_an_unresolved_vgg_auto_does_not_train():
    with pytest.raises(AssertionError, match="resolve"):
        make(vgg="auto").loss("generator", batch_of(), draws(4))


def test_vgg_is_in_no_checkpoint_and_not_among_the_parameters(with_vgg):
    model = make(vgg="yes")
    names = set(model.state_dict())
    model.loss("generator", batch_of(), draws(4))
    assert model._vgg
    assert set(model.state_dict()) == names
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"generator", "discriminator"}


def test_a_model_trained_with_vgg_draws_without_vggs_weights():
    model = copy.deepcopy(make(vgg="yes")).eval()
    with torch.no_grad():
        assert model.generate(batch_of().labels, rng=draws(4)).isfinite().all()


def test_vgg_halves_its_taps_and_takes_one_channel_for_three(vgg_state):
    vgg, image = VGG19(vgg_state), batch_of(2).image
    taps = vgg(image)
    assert [tap.shape for tap in taps] == [
        (2, 64, 32, 32), (2, 128, 16, 16), (2, 256, 8, 8), (2, 512, 4, 4), (2, 512, 2, 2)
    ]  # fmt: skip
    assert all(tap.min() == 0 for tap in taps)  # after the ReLU
    for gray, color in zip(taps, vgg(image.repeat(1, 3, 1, 1)), strict=True):
        assert torch.equal(gray, color)


def test_vgg_is_frozen_and_takes_no_random_numbers(vgg_state):
    before = torch.get_rng_state()
    vgg = VGG19(vgg_state)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in vgg.parameters())


# Drawing


@pytest.fixture
def trained():
    """A generator whose running statistics are not those of any one slice."""
    model = make()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3 if "conv_out.weight" in name else 0.1)
    with torch.no_grad():
        for _ in range(20):
            model.generate(batch_of().labels, rng=draws(4))
    return model.eval()


@torch.no_grad()
def test_the_random_draws_do_not_change_the_slice(trained):
    labels = batch_of().labels
    one, two = (trained.generate(labels, rng=draws(4, name)) for name in ("one", "two"))
    assert torch.equal(one, two)


@torch.no_grad()
def test_the_slice_depends_on_its_label_map_and_not_on_the_batch(trained):
    labels = batch_of().labels
    together = trained.generate(labels, rng=draws(4))
    alone = trained.generate(labels[2:3], rng=draws(1))
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=0)
    other = trained.generate(labels.roll(1, 0), rng=draws(4))
    assert (together - other).abs().max() > 1e-2


@torch.no_grad()
def test_bf16_draws_float32_slices_near_those_of_fp32(trained):
    labels = batch_of().labels
    plain = trained.generate(labels, rng=draws(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = trained.generate(labels, rng=draws(4))
    assert low.dtype == torch.float32
    assert (low - plain).abs().mean() < 0.02
