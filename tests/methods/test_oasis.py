"""OASIS: equality with the original, and laws.

oasis.npz was computed once with the original (boschresearch/OASIS at commit aeb875f, torch 2.13 on a CPU, one
thread, float64): its OASIS_model in training mode on 2 slices of 64 x 64 and 5 classes, of which class 3 is
absent; generator of width 4, discriminator of its own widths, the generator's last and the discriminator's first
layer rebuilt for one channel, its label mixing given the coins of ``stream``. First its generator's loss, then its
discriminator's, with no step between, then its generator in evaluation mode. Weights and the u of the spectral
norms are those of ``filled`` under the original's names. Outputs are before the tanh, one pixel in 4 by 4,
judgments one in 8 by 8, both stored in float32; norms are of gradients, by the names in alphabetical order,
``labelmix_norm`` of the last layer's weight. In float32 those norms change by up to 3e-4 with the CPU, because
rounding moves values over the kinks of the ReLUs; in float64 they are equal to 2e-15 with and without AVX2 and
AVX-512. ``published_mix``: how often of 10,000 times its own label mixing took each class (0, 1, 2 or 0, 2) from
the real slice.
"""

import itertools
import re
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gan_models import CLASSES, CPU, batch_of, draws, make_gan, stream, with_running_statistics

from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.methods.oasis import NOISE, class_weights, labelmix_mask
from ctsynth.networks.conditioning import one_hot
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch
from ctsynth.training.distributed import freeze_others

make = partial(make_gan, "oasis")
OFFICIAL = [16, 16, 8, 4, 2, 1]


# Equality with the original


def filled(name, shape):
    drawn = stream(name, shape)
    if name.endswith("weight_u"):
        return torch.nn.functional.normalize(drawn, dim=0)
    return drawn * (0.1 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5)


GENERATOR = {
    "norm_in": "norm_0", "norm_out": "norm_1", "norm_skip": "norm_s", "shared": "mlp_shared.0",
    "conv_in": "conv_0", "conv_out": "conv_1", "skip": "conv_s",
}  # fmt: skip
SPECTRAL = {"parametrizations.weight.original": "weight_orig", "parametrizations.weight.0.u": "weight_u"}


def original(name):
    """The original's parameters whose concatenation is ours."""
    for ours, theirs in SPECTRAL.items():
        name = name.replace(ours, theirs)
    ends = {"generator.conv_in": "netG.fc", "generator.conv_out": "netG.conv_img"}
    ends["discriminator.conv_out"] = "netD.layer_up_last"
    place, _, kind = name.rpartition(".")
    if place in ends:
        return [f"{ends[place]}.{kind}"]
    if match := re.fullmatch(r"generator\.levels\.(\d)\.0\.(.+)", name):
        inner = ".".join(GENERATOR.get(part, part) for part in match[2].split("."))
        halves = ("mlp_gamma", "mlp_beta") if "gamma_beta" in inner else ("gamma_beta",)
        return [f"netG.body.{match[1]}." + inner.replace("gamma_beta", half) for half in halves]
    way, number, layer, kind = re.fullmatch(r"discriminator\.(down|up)\.(\d)\.(\w+)\.(\w+)", name).groups()
    first = {"down": int(number != "0"), "up": 2}[way]
    layer = {"conv_in": f"conv1.{first}", "conv_out": "conv2.1", "skip": "conv_s"}[layer]
    return [f"netD.body_{way}.{number}.{layer}.{kind}"]


@torch.no_grad()
def fill(model):
    for name, value in model.state_dict().items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked", ".v")):
            names = original(name)
            shape = (len(value) // len(names), *value.shape[1:])
            value.copy_(torch.cat([filled(n, shape) for n in names]))
    return model


class StreamDraws:
    """Draws a batch of two from ``stream``."""

    def __init__(self, use, dtype):
        self.use, self.dtype = use, dtype

    def normal(self, name, shape):
        return stream(f"{name} {self.use}", (2, *shape)).to(self.dtype)

    def shared(self, name, shape):
        return self.normal(name, shape) if name == "z" else stream(name, shape).expand(2, *shape)


def golden_batch():
    labels = np.random.RandomState(zlib.crc32(b"labels")).randint(0, CLASSES, (2, 8, 8))
    labels[labels == 3] = 0
    labels = torch.from_numpy(labels).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return Batch(torch.tanh(stream("image", (2, 1, 64, 64)).double()).to(torch.float32), labels)


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("oasis.npz"), allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def run(dtype):
    """What ours gives where the original gave the golden values."""
    model = fill(make(64, channels=4, multipliers=OFFICIAL, discriminator_channels=128)).to(dtype)
    batch = golden_batch()
    batch = replace(batch, image=batch.image.to(dtype))
    seen = SimpleNamespace(model=model, outputs=[], judged=[], terms={}, norms={}, total={})
    model.generator.register_forward_hook(lambda *args: seen.outputs.append(args[-1].detach()))
    model.discriminator.register_forward_hook(lambda *args: seen.judged.append(args[-1].detach()))
    for phase in model.phases():
        model.zero_grad()
        freeze_others(model, phase)
        seen.terms[phase.name] = terms = model.loss(phase.name, batch, StreamDraws(phase.name, dtype))
        if phase.name == "discriminator":
            last = torch.autograd.grad(terms["labelmix"], model.discriminator.conv_out.weight, retain_graph=True)
            seen.labelmix_norm = last[0].norm()
        terms["loss"].backward()
        seen.total[phase.name] = torch.nn.utils.get_total_norm([p.grad for p in phase.parameters])
        found = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                names = original(name)
                found |= {n: half.norm() for n, half in zip(names, parameter.grad.chunk(len(names)), strict=True)}
        seen.norms[phase.name] = torch.stack([found[name] for name in sorted(found)])
    model.eval()
    with torch.no_grad():
        model.generate(batch.labels, rng=StreamDraws("generate", dtype))
    return seen


@pytest.fixture(scope="module")
def exact():
    """In float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr("ctsynth.methods.oasis.one_hot", lambda labels, n: one_hot(labels, n).double())
        return run(torch.float64)


@pytest.fixture(scope="module", params=["float64", "float32"])
def ours(request):
    """In each precision; gradients are not equal in float32."""
    return request.getfixturevalue("exact") if request.param == "float64" else run(torch.float32)


def close(ours, theirs):
    """Equal in float64, but for golden values stored in float32; in float32 up to rounding."""
    if ours.dtype == torch.float64:
        rtol, atol = (1e-8 if theirs.dtype == torch.float64 else 1e-7), 1e-12
    else:
        rtol, atol = 1e-4, 1e-4
    torch.testing.assert_close(ours.detach(), theirs.to(ours.dtype), rtol=rtol, atol=atol)


@pytest.mark.parametrize(("number", "name"), [(0, "output"), (1, "output_again"), (2, "evaluated")])
def test_the_generator_equals_the_original(golden, ours, number, name):
    close(ours.outputs[number][..., 1::4, 2::4], golden[name])


def test_the_judgments_and_their_order_equal_the_originals(golden, ours):
    close(torch.stack(ours.judged)[..., 2::8, 5::8], golden["judged"])


def test_the_loss_terms_equal_the_originals(golden, ours):
    close(ours.terms["generator"]["loss"], golden["adversarial"])
    for name in ("fake", "real", "labelmix"):
        close(ours.terms["discriminator"][name], golden[name])
    close(ours.terms["discriminator"]["loss"], golden["discriminator_loss"])


@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_the_gradients_equal_the_originals(golden, exact, phase):
    close(exact.total[phase], golden[f"{phase}_norm"])
    close(exact.norms[phase], golden[f"{phase}_norms"])


def test_labelmix_reaches_all_three_judgments_as_in_the_original(golden, exact):
    close(exact.labelmix_norm, golden["labelmix_norm"])


# Where the original is mended


def published_mask(classes, coins):
    """Class by class the map itself takes the coins, so that a coin can be taken for the class of that number."""
    value = {number: number for number in classes}
    for number, coin in zip(classes, coins, strict=True):
        value = {c: coin if v == number else v for c, v in value.items()}
    return [value[number] for number in classes]


def all_masks(rule, classes):
    coins = itertools.product((0, 1), repeat=len(classes))
    return np.array([rule(classes, one) for one in coins])


def our_masks(classes, count=4000):
    labels = torch.tensor(classes)[None, None]
    masks = [labelmix_mask(labels, CLASSES, draws(1, f"step {step}")) for step in range(count)]
    return torch.stack(masks).view(count, -1).float().numpy()


def test_the_originals_labelmix_takes_background_with_probability_one_quarter_if_class_1_is_present(
    golden,
):
    spread = 5 * 0.5 / 10_000**0.5  # five standard deviations
    for classes, name in (([0, 1, 2], "with"), ([0, 2], "without")):
        exact = all_masks(published_mask, classes).mean(0)
        assert exact.tolist() == ([0.25, 0.5, 0.5] if 1 in classes else [0.5, 0.5])
        np.testing.assert_allclose(golden[f"published_mix_{name}_class_1"], exact, atol=spread)
    masks = all_masks(published_mask, [0, 1, 2])
    assert not np.any(masks[:, 0] > masks[:, 1])  # never without class 1


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 2], [0, 1, 2, 3, 4]])
def test_labelmix_takes_each_class_from_the_real_slice_with_independent_probability_one_half(classes):
    masks = our_masks(classes)
    spread = 5 * 0.5 / len(masks) ** 0.5
    np.testing.assert_allclose(masks.mean(0), 0.5, atol=spread)
    agree = (2 * masks - 1).T @ (2 * masks - 1) / len(masks)
    np.testing.assert_allclose(agree, np.eye(len(classes)), atol=2 * spread)


def test_labelmix_draws_once_per_class_for_all_slices_and_keeps_the_labels():
    labels = batch_of().labels
    before = labels.clone()
    kinds = set()
    for step in range(20):
        mask = labelmix_mask(labels, CLASSES, draws(4, f"step {step}"))
        assert mask.shape == (4, 1, 32, 32)
        coins = [set(mask[:, 0][labels == number].tolist()) for number in range(CLASSES)]
        assert all(len(coin) == 1 for coin in coins)
        kinds.add(tuple(coin.pop() for coin in coins))
    assert torch.equal(labels, before)
    assert len(kinds) > 8  # of 32


def test_class_weights_equal_the_originals_and_those_of_absent_classes_are_finite(golden):
    pixels = one_hot(golden_batch().labels, CLASSES).sum((0, 2, 3))
    weights, present = class_weights(pixels), pixels > 0
    assert present.tolist() == [True, True, True, False, True]
    torch.testing.assert_close(weights[present], golden["class_weights"][present].float())
    assert weights.isfinite().all()


def test_the_mean_weight_of_a_pixel_is_1_and_classes_weigh_the_same():
    pixels = torch.tensor([7000.0, 0.0, 20.0, 1.0, 0.0])
    shares = class_weights(pixels) * pixels / pixels.sum()
    torch.testing.assert_close(shares, torch.tensor([1, 0, 1, 1, 0]) / 3)


# Parts of a batch


def test_parts_of_a_batch_with_its_pixel_counts_have_the_loss_of_the_whole():
    model, batch = make().eval(), batch_of()  # a power iteration would come between
    pixels = model.totals("discriminator", batch, draws(4))

    def real(rows, pixels):
        part = Batch(batch.image[rows], batch.labels[rows], pixels)
        return model.loss("discriminator", part, draws(len(part.labels)))["real"]

    halves = slice(0, 2), slice(2, 4)
    whole = real(slice(0, 4), None)
    torch.testing.assert_close(whole, real(slice(0, 4), pixels))
    torch.testing.assert_close(whole, sum(real(rows, pixels) for rows in halves) / 2)
    assert abs(whole - sum(real(rows, None) for rows in halves) / 2) > 1e-3


def test_pixels_are_counted_in_the_slices_own_label_maps():
    model, own = make(label_context=1).eval(), batch_of().labels
    batch = Batch(batch_of().image, torch.stack([own.roll(1, 0), own, torch.zeros_like(own)], dim=1))
    pixels = model.totals("generator", batch, draws(4))
    assert pixels.tolist() == torch.bincount(own.flatten(), minlength=CLASSES).tolist()
    whole, with_totals = (
        model.loss("generator", one, draws(4))["loss"] for one in (batch, replace(batch, totals=pixels))
    )
    torch.testing.assert_close(whole, with_totals)


# Its size


def test_parameters_at_17_classes():
    cls = base.find_method("oasis")
    model = cls(cls.Options(), num_classes=17, size=256)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    # The first convolution, 9 81 1024 + 1024 = 747,520, and the last, 9 64 + 1. Sixteen SPADEs, each with a hidden
    # layer, 9 81 128 + 128 = 93,440, have widths that sum to 8896, at 2 (9 128 + 1) = 2306 a channel. Convolutions
    # are twice 2 (9 1024 1024 + 1024) and, from 2b to b channels, 18bb + b + 9bb + b + 2bb for b = 512 to 64.
    spade = 16 * 93_440 + 2306 * 8896
    convolutions = 37_752_832 + 7_603_200 + 1_901_056 + 475_392 + 118_912
    assert count["generator"] == 747_520 + spade + convolutions + 577 == 70_608_705
    assert count["discriminator"] == 22_247_634  # see tests/networks/test_segmentation_discriminator.py


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "multipliers"),
    [(16, [2, 1]), (48, [4, 2, 2, 1]), (64, OFFICIAL), (128, OFFICIAL), (256, OFFICIAL)],
)
def test_slices_come_out_at_the_size_of_their_label_maps_and_are_judged_there(size, multipliers):
    model = make(size, channels=2, multipliers=multipliers, discriminator_channels=2)
    seen = []
    model.discriminator.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    terms = model.loss("discriminator", batch_of(1, size), draws(1))
    assert all(term.isfinite() for term in terms.values())
    fake, judged = seen[0]
    assert fake.shape == (1, 1, size, size)
    assert fake.abs().max() <= 1
    assert judged.shape == (1, 1 + CLASSES, size, size)


@pytest.mark.parametrize(("size", "multipliers", "factor"), [(32, OFFICIAL, 64), (250, [2, 1], 4)])
def test_a_size_that_the_networks_cannot_take_is_refused(size, multipliers, factor):
    with pytest.raises(UsageError, match=rf"{size} x {size} .* divide by {factor}"):
        make(size, multipliers=multipliers)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("channels", 0),
        ("multipliers", []),
        ("multipliers", [2, 0]),
        ("discriminator_channels", 1),
        ("labelmix_weight", -1.0),
    ],
)
def test_an_invalid_option_is_refused_by_name(option, value):
    with pytest.raises(UsageError, match=option):
        make(**{option: value})


# Training


def test_phases_are_the_originals_in_its_order():
    phases = [(phase.name, phase.lr, phase.betas) for phase in make().phases()]
    assert phases == [("generator", 1e-4, (0.0, 0.999)), ("discriminator", 4e-4, (0.0, 0.999))]


def test_the_loss_is_the_sum_of_its_weighted_terms():
    terms = make(labelmix_weight=7.0).loss("discriminator", batch_of(), draws(4))
    torch.testing.assert_close(terms["loss"], terms["fake"] + terms["real"] + 7 * terms["labelmix"])


def inputs_of(network, call):
    seen = []
    hook = network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    call()
    hook.remove()
    return seen


@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_in_training_the_generator_input_is_one_z_per_slice_then_the_classes(phase):
    model, batch = make(), batch_of()
    (told,) = inputs_of(model.generator, lambda: model.loss(phase, batch, draws(4)))
    noise, segmap = told[:, :NOISE], told[:, NOISE:]
    assert torch.equal(segmap, one_hot(batch.labels, CLASSES))
    assert torch.equal(noise, noise[:, :, :1, :1].expand_as(noise))
    assert len(noise[:, 0, 0, 0].unique()) == 4
    assert NOISE == noise.shape[1] == 64


def test_the_discriminator_sees_the_fake_then_the_real_then_their_mix():
    model, batch = make(), batch_of()
    fake, real, mix = inputs_of(model.discriminator, lambda: model.loss("discriminator", batch, draws(4)))
    mask = labelmix_mask(batch.labels, CLASSES, draws(4))
    assert 0 < mask.float().mean() < 1
    assert torch.equal(real, batch.image)
    assert torch.equal(mix, torch.where(mask, real, fake))


def test_the_discriminator_learns_the_classes_of_real_slices_in_30_steps():
    labels = torch.zeros(4, 16, 16, dtype=torch.int64)
    for row in range(4):
        labels[row, 2 : 8 + row, 3:13] = 1
        labels[row, 10:14, 2 : 6 + 2 * row] = 2
    noise = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = Batch((0.7 * (labels[:, None] - 1) + 0.05 * noise).clamp(-1, 1), labels)  # gray says the class
    model = make(16, num_classes=3, multipliers=[2, 1], discriminator_channels=16)
    accuracy = []

    def look(_, args, out):
        if args[0] is batch.image:
            right = [(out.argmax(1) == 1 + number)[labels == number].float().mean() for number in range(3)]
            accuracy.append(sum(right).item() / 3)

    model.discriminator.register_forward_hook(look)
    optimizers = {p.name: torch.optim.Adam(p.parameters, lr=p.lr, betas=p.betas) for p in model.phases()}
    for step in range(30):
        for phase in model.phases():
            freeze_others(model, phase)
            optimizers[phase.name].zero_grad()
            model.loss(phase.name, batch, draws(4, f"{phase.name} {step}"))["loss"].backward()
            optimizers[phase.name].step()
    assert len(accuracy) == 30
    assert accuracy[0] < 1 / 3  # by chance, and "fake" is wrong as well
    assert np.mean(accuracy[-20:]) > 0.45  # measured with three seeds: 0.64 to 0.69


@torch.no_grad()
def test_bf16_judgments_are_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make()._judge(batch_of().image).dtype == torch.float32


# Drawing


@pytest.fixture(scope="module")
def trained():
    """A generator that shows its z."""
    return with_running_statistics(make(), 10)


SAME = batch_of().labels[1:2].expand(3, -1, -1)


@torch.no_grad()
def test_slices_of_a_volume_share_one_z_and_separate_slices_do_not(trained):
    volume = BatchRNG.smooth(("volume",), [0.0, 5.0, 300.0], [(12.0, 1.0)], CPU)
    other = BatchRNG.smooth(("another",), [0.0, 5.0, 300.0], [(12.0, 1.0)], CPU)
    slices = BatchRNG.at([("slice", number) for number in range(3)], CPU)
    one, another, apart = (trained.generate(SAME, rng=rng) for rng in (volume, other, slices))
    torch.testing.assert_close(one, one[:1].expand_as(one), atol=1e-4, rtol=0)
    torch.testing.assert_close(another, another[:1].expand_as(one), atol=1e-4, rtol=0)
    assert (one - another).abs().max() > 1e-2
    assert min((apart[i] - apart[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2


@torch.no_grad()
def test_the_same_draws_give_the_same_bytes(trained):
    labels = batch_of().labels
    assert torch.equal(trained.generate(labels, rng=draws(4)), trained.generate(labels, rng=draws(4)))


@torch.no_grad()
def test_the_slice_depends_on_its_label_map_and_not_on_the_batch(trained):
    labels = batch_of().labels
    together = trained.generate(labels, rng=draws(4))
    torch.testing.assert_close(together[2:3], trained.generate(labels[2:3], rng=draws(1)), atol=1e-4, rtol=0)
    assert (together - trained.generate(labels.roll(1, 0), rng=draws(4))).abs().max() > 1e-2


@torch.no_grad()
def test_bf16_draws_float32_slices_near_those_of_fp32(trained):
    labels = batch_of(1, 16).labels
    plain = trained.generate(labels, rng=draws(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = trained.generate(labels, rng=draws(1))
    assert low.dtype == torch.float32
    assert (low - plain).abs().mean() < 0.02


def test_the_presets_widen_up_to_the_originals():
    cls = base.find_method("oasis")
    assert dict(cls.presets["paper"].options) == {}
    count = {}
    for name, preset in cls.presets.items():
        if name != "paper":
            model = cls(cls.Options(**preset.options), num_classes=17, size=64)
            count[name] = sum(p.numel() for p in model.parameters())
    assert count["tiny"] < count["small"] < 70_608_705
