"""Pix2Pix: equality with its authors' own PyTorch port, and laws.

The Lua original does not run today. pix2pix.npz was computed once with the port (junyanz/
pytorch-CycleGAN-and-pix2pix, models/networks.py at commit 000f298, torch 2.13 on a CPU, one thread, float64):
UnetGenerator and NLayerDiscriminator with batch normalization, 5 classes, width 8, 3 slices of 64 x 64
(`output_256`: width 2, one slice of 256 x 256). Where the port differs from the Lua code, the Lua code was
followed: the biases that it has in first and last layers are 0, the discriminator's loss is not halved, and
dropout (masks by `stream`) is on the three innermost decoder layers. Weights are those of `stream` under the
port's names. `output` is with batch statistics and no dropout, `evaluated` with the running ones after that,
`alone` with dropout and each slice in a batch of its own; outputs are before the tanh, one pixel in 4 by 4 (8
by 8 at 256), stored in float32. Norms are of gradients, in the port's order of parameters; in float32 rounding
moves values over the kinks of ReLUs, on each CPU others.
"""

import copy
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gan_models import CLASSES, CPU, batch_of, draws, learn, make_gan, stream, with_running_statistics

from ctsynth.errors import UsageError
from ctsynth.networks.conditioning import one_hot
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch, StepFake
from ctsynth.training.distributed import freeze_others

make = partial(make_gan, "pix2pix")


# Equality with the port


class StreamDraws:
    """Draws a batch of three from ``stream``."""

    def __init__(self, rows=slice(None)):
        self.rows = rows

    def normal(self, name, shape):
        return stream(name, (3, *shape))[self.rows]


def golden_batch(size=64, count=3):
    blocks = (count, size // 8, size // 8)
    labels = torch.from_numpy(np.random.RandomState(zlib.crc32(b"labels")).randint(0, CLASSES, blocks))
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return Batch(torch.tanh(stream("image", (count, 1, size, size)).double()).to(torch.float32), labels)


def generator_names(depth):
    """(the port's layer, ours), in the port's order."""
    prefix, down, up = "G.model.model", [("G.model.model.0", "down.0")], []
    for level in range(1, depth):
        prefix += ".1.model" if level == 1 else ".3.model"
        innermost, out = level == depth - 1, depth - 1 - level
        down.append((f"{prefix}.1", f"down.{level}"))
        if not innermost:
            down.append((f"{prefix}.2", f"down_norms.{level - 1}"))
        at = 3 if innermost else 5
        up = [(f"{prefix}.{at}", f"up.{out}"), (f"{prefix}.{at + 1}", f"up_norms.{out}"), *up]
    pairs = [*down, *up, ("G.model.model.3", f"up.{depth - 1}")]
    return [(theirs, f"generator.{ours}") for theirs, ours in pairs]


DISCRIMINATOR_NAMES = [
    (f"D.model.{theirs}", f"discriminator.layers.{ours}")
    for theirs, ours in zip(
        (0, 2, 3, 5, 6, 8, 9, 11), ("0.0", "1.0", "1.1", "2.0", "2.1", "3.0", "3.1", "4"), strict=True
    )
]


def ordered_parameters(model, names):
    """(the port's parameter, ours)"""
    found = dict(model.named_parameters())
    pairs = [(f"{t}.{kind}", f"{o}.{kind}") for t, o in names for kind in ("weight", "bias")]
    return [(theirs, ours, found[ours]) for theirs, ours in pairs if ours in found]


@torch.no_grad()
def fill(model, depth):
    pairs = ordered_parameters(model, generator_names(depth) + DISCRIMINATOR_NAMES)
    assert {ours for _, ours, _ in pairs} == {name for name, _ in model.named_parameters()}
    for theirs, ours, parameter in pairs:
        drawn = stream(theirs, parameter.shape)
        if parameter.ndim == 1:
            drawn = drawn * 0.2 + float(theirs.endswith("weight"))
        else:
            drawn *= 0.1
            if ours.startswith("generator.up.") and ours != "generator.up.0.weight":
                drawn = drawn.roll(len(drawn) // 2, 0)  # theirs joins (skip, up), the Lua original (up, skip)
        parameter.copy_(drawn)
    return model


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("pix2pix.npz"), allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def filled():
    return fill(make(64, channels=8, discriminator_channels=8), depth=6)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_generator_equals_the_ports(golden, filled):
    segmap = one_hot(golden_batch().labels, CLASSES)
    close(filled.generator(segmap)[..., 1::4, 2::4], golden["output"])
    filled.eval()
    close(filled.generator(segmap)[..., 1::4, 2::4], golden["evaluated"])
    assert (golden["output"] - golden["evaluated"]).abs().max() > 0.1


@torch.no_grad()
def test_dropout_is_on_the_three_innermost_layers_as_in_the_original(golden, filled):
    batch = golden_batch()
    masks = filled._dropout(64, StreamDraws())
    output = filled.generator(one_hot(batch.labels, CLASSES), masks)
    close(output[..., 1::4, 2::4], golden["masked_output"])
    assert (golden["output"] - golden["masked_output"]).abs().max() > 0.1


def test_256_pixels_are_halved_eight_times(golden):
    model = fill(make(256, channels=2, discriminator_channels=2), depth=8)
    with torch.no_grad():
        output = model.generator(one_hot(golden_batch(256, 1).labels, CLASSES))
    close(output[..., 3::8, 5::8], golden["output_256"])


@pytest.mark.parametrize(
    ("phase", "names"), [("discriminator", DISCRIMINATOR_NAMES), ("generator", generator_names(6))]
)
def test_loss_terms_and_gradients_equal_the_ports(golden, filled, monkeypatch, phase, names):
    batch = golden_batch()
    in_float32 = filled.loss(phase, batch, StreamDraws())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr("ctsynth.methods.pix2pix.one_hot", lambda labels, n: one_hot(labels, n).double())
    terms = filled.double().loss(phase, replace(batch, image=batch.image.double()), StreamDraws())
    terms["loss"].backward()
    for name in terms.keys() - {"loss"}:
        close(in_float32[name].double(), golden[name])
        torch.testing.assert_close(terms[name], golden[name], rtol=1e-8, atol=0)
    norms = torch.stack([parameter.grad.norm() for *_, parameter in ordered_parameters(filled, names)])
    torch.testing.assert_close(norms, golden[f"{phase}_norms"], rtol=1e-8, atol=0)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_original_draws_what_test_lua_draws_with_its_batch_of_one(golden, filled, row):
    filled.eval()
    labels = golden_batch().labels
    with torch.no_grad():
        rng = StreamDraws(slice(row, row + 1))
        alone = filled.generate(labels[row : row + 1], rng=rng, pix2pix_test="original")
        together = filled.generate(labels, rng=StreamDraws(), pix2pix_test="original")[row : row + 1]
    wanted = golden["alone"][row : row + 1].tanh()
    close(alone[..., 1::4, 2::4], wanted)
    close(together[..., 1::4, 2::4], wanted)


# Its size


def test_parameters_at_256_pixels_and_17_classes():
    model = make(256, num_classes=17, channels=64, discriminator_channels=64)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    # 4 x 4 weights: 16 (17 64 + 64 128 + 128 256 + 256 512 + 4 512 512) = 19,547,136 down,
    # 16 (512 512 + 3 1024 512 + 1024 256 + 512 128 + 256 64 + 128 1) = 34,867,200 up;
    # norms: 2 (128 + 256 + 4 512) = 4864 and 2 (4 512 + 256 + 128 + 64) = 4992
    assert count["generator"] == 19_547_136 + 34_867_200 + 4864 + 4992 == 54_424_192
    # 16 (18 64 + 64 128 + 128 256 + 256 512 + 512 1) = 2,779,136, norms: 2 (128 + 256 + 512)
    assert count["discriminator"] == 2_779_136 + 1792 == 2_780_928


@pytest.mark.parametrize(("size", "depth"), [(32, 5), (48, 4), (64, 6), (96, 5), (128, 7), (256, 8), (512, 8)])
def test_the_generator_is_as_deep_as_the_side_halves_up_to_eight(size, depth):
    generator = make(size).generator
    assert len(generator.down) == len(generator.up) == depth
    assert generator.mask_shapes(size)[0][1] == 2 * size // 2**depth


@pytest.mark.parametrize("size", [32, 48, 64])
def test_slices_come_out_at_the_size_of_their_label_maps(size):
    model, batch = make(size), batch_of(2, size)
    image = model.generate(batch.labels, rng=draws(2))
    assert image.shape == (2, 1, size, size)
    assert image.abs().max() <= 1
    for phase in model.phases():
        assert model.loss(phase.name, batch, draws(2))["loss"].isfinite()


@pytest.mark.parametrize(
    ("size", "why"), [(40, "divide by 16"), (24, "divide by 16"), (250, "divide by 16"), (16, "at least 32")]
)
def test_a_size_that_the_networks_cannot_take_is_refused(size, why):
    with pytest.raises(UsageError, match=rf"{size} x {size} .* {why}"):
        make(size)


@pytest.mark.parametrize(
    ("option", "value"), [("channels", 0), ("discriminator_channels", 0), ("l1_weight", -1.0)]
)
def test_an_invalid_option_is_refused_by_name(option, value):
    with pytest.raises(UsageError, match=option):
        make(**{option: value})


def test_neighbors_label_maps_leave_the_dropout_its_size():
    model, batch = make(label_context=1), batch_of()
    batch = replace(batch, labels=batch.labels[:, None].expand(-1, 3, -1, -1))
    assert model.generate(batch.labels, rng=draws(4), pix2pix_test="original").shape == (4, 1, 32, 32)
    assert model.loss("generator", batch, draws(4))["loss"].isfinite()


# Training


def test_weights_begin_as_the_originals():
    """Normal with a deviation of 0.02, about 0 in convolutions and about 1 in norms, whose biases are 0."""
    parameters = dict(make(channels=16).named_parameters())
    weights = torch.cat([p.flatten() for p in parameters.values() if p.ndim == 4])
    norms = torch.cat([p for name, p in parameters.items() if p.ndim == 1 and name.endswith("weight")])
    for drawn, mean in ((weights, 0), (norms, 1)):
        spread = 5 * 0.02 / len(drawn) ** 0.5  # five standard deviations of the mean
        assert drawn.mean().item() == pytest.approx(mean, abs=spread)
        assert drawn.std().item() == pytest.approx(0.02, abs=spread)
    assert not any(p.any() for name, p in parameters.items() if name.endswith("bias"))


def test_phases_are_the_originals_in_its_order():
    phases = list(make().phases())
    assert [phase.name for phase in phases] == ["discriminator", "generator"]
    assert {(phase.lr, phase.betas) for phase in phases} == {(5e-4, (0.5, 0.999))}


def test_phases_that_share_a_fake_generate_it_once_with_equal_gradients():
    apart, drawn = make(), []
    together = copy.deepcopy(apart)
    for model, batch in ((apart, batch_of()), (together, replace(batch_of(), fake=StepFake()))):
        count = []
        model.generator.register_forward_hook(lambda *_, count=count: count.append(1))
        for phase in model.phases():
            freeze_others(model, phase)
            model.loss(phase.name, batch, draws(4))["loss"].backward()
        drawn.append(len(count))
    assert drawn == [2, 1]
    for (name, ours), theirs in zip(together.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_the_loss_is_the_sum_of_its_weighted_terms():
    model = make(l1_weight=7.0)
    terms = model.loss("discriminator", batch_of(), draws(4))
    torch.testing.assert_close(terms["loss"], terms["real"] + terms["fake"])
    terms = model.loss("generator", batch_of(), draws(4))
    torch.testing.assert_close(terms["loss"], terms["adversarial"] + 7 * terms["l1"])


def test_real_and_fake_batches_are_normalized_separately():
    model, batch = make(), batch_of()
    real = model.loss("discriminator", batch, draws(4))["real"]
    with torch.no_grad():
        model.generator.up[-1].weight.mul_(100)  # other fakes
    terms = model.loss("discriminator", batch, draws(4))
    assert terms["real"] == real


def test_training_both_brings_the_fake_to_the_real():
    rows = learn(make(channels=8), ("discriminator", "generator"), batch_of(8), steps=40, lr=1e-3)
    assert rows[-1]["l1"] < 0.5 * rows[0]["l1"]


def test_the_discriminator_learns_to_tell_real_from_fake():
    rows = learn(make(), ("discriminator",), batch_of(), steps=20, lr=1e-3)
    assert rows[0]["loss"] == pytest.approx(2 * np.log(2), abs=0.3)  # saying one half
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


@torch.no_grad()
def test_bf16_judgments_are_float32():
    batch = batch_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make()._judge(one_hot(batch.labels, CLASSES), batch.image).dtype == torch.float32


# Drawing


@pytest.fixture
def trained():
    return with_running_statistics(make(), 20)


@torch.no_grad()
def test_eval_does_not_depend_on_the_random_draws(trained):
    labels = batch_of().labels
    assert torch.equal(
        trained.generate(labels, rng=draws(4, "one")), trained.generate(labels, rng=draws(4, "two"))
    )


@torch.no_grad()
def test_original_depends_on_the_random_draws(trained):
    labels = batch_of().labels
    one, again, two = (
        trained.generate(labels, rng=draws(4, name), pix2pix_test="original") for name in ("one", "one", "two")
    )
    assert torch.equal(one, again)
    assert (one - two).abs().max() > 1e-3


@torch.no_grad()
def test_eval_and_original_differ(trained):
    labels, images = batch_of().labels, {}
    for choice in trained.choices["pix2pix_test"]:
        images[choice] = trained.generate(labels, rng=draws(4), pix2pix_test=choice)
    assert torch.equal(images["eval"], trained.generate(labels, rng=draws(4)))
    assert (images["eval"] - images["original"]).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("test", ["eval", "original"])
def test_the_slice_depends_on_its_label_map_and_not_on_the_batch(trained, test):
    labels = batch_of().labels
    together = trained.generate(labels, rng=draws(4), pix2pix_test=test)
    alone = trained.generate(labels[2:3], rng=draws(1, first=2), pix2pix_test=test)
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=0)
    other = trained.generate(labels.roll(1, 0), rng=draws(4), pix2pix_test=test)
    assert (together - other).abs().max() > 1e-2


@torch.no_grad()
def test_original_leaves_the_running_statistics_alone(trained):
    trained.train()
    before = [buffer.clone() for buffer in trained.buffers()]
    trained.generate(batch_of().labels, rng=draws(4), pix2pix_test="original")
    assert all(torch.equal(b, a) for b, a in zip(before, trained.buffers(), strict=True))


@torch.no_grad()
@pytest.mark.parametrize("test", ["eval", "original"])
def test_bf16_draws_float32_slices_near_those_of_fp32(trained, test):
    labels = batch_of().labels
    plain = trained.generate(labels, rng=draws(4), pix2pix_test=test)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = trained.generate(labels, rng=draws(4), pix2pix_test=test)
    assert low.dtype == torch.float32
    assert (low - plain).abs().mean() < 0.02


def test_dropout_keeps_half_and_doubles_it():
    for mask in make(64, channels=16)._dropout(64, draws(8)):
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        assert mask.mean().item() == pytest.approx(1, abs=5 / mask.numel() ** 0.5)  # five standard deviations


def test_neighboring_slices_share_most_of_their_dropout_where_the_draws_are_smooth():
    rng = BatchRNG.smooth(("volume",), [0.0, 1.0, 200.0], [(12.0, 1.0)], CPU)
    near, far = [], []
    for mask in make(64, channels=16)._dropout(64, rng):
        near.append((mask[0] == mask[1]).float().mean())
        far.append((mask[0] == mask[2]).float().mean())
    # signs of normal numbers with correlation r agree with probability 1/2 + arcsin(r) / pi: 0.97 at 1 mm
    assert torch.stack(near).mean() > 0.93
    assert torch.stack(far).mean() < 0.6
