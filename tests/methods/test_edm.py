"""EDM, and EDM for volumes: what one is of the other, and what their windows, levels and chunks do."""

import math

import pytest
import torch
from small_runs import CPU, SMALL

from ctsynth.config import build
from ctsynth.diffusion.edm import Known, Scales, chunks, timesteps
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.methods.base import Stack
from ctsynth.networks.conditioning import to_patches
from ctsynth.networks.mixing import Mixing
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch, Windows
from ctsynth.training.cost import cost

RUN = Sampler(steps=3)


def make(name, size=16, **options):
    cls = base.find_method(name)
    torch.manual_seed(0)
    return cls(build(cls.Options, SMALL[name] | options, name), num_classes=4, size=size)


def make_random(name, **options):
    """With weights that say something of every input."""
    model = make(name, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def rng_of(count, name="step", first=0):
    return BatchRNG.at([(name, at) for at in range(first, first + count)], CPU)


def labels_of(count, size=16):
    labels = torch.zeros(count, size, size, dtype=torch.int64)
    for row in range(count):
        labels[row, 3 : 9 + row % 5, 4:12] = 1 + row % 3
    return labels


def batch_of(valid, spacing=5.0, stride=1.0):
    """Windows with these slices valid."""
    valid = torch.tensor(valid, dtype=torch.bool)
    labels = labels_of(valid.numel())
    ones = torch.ones(len(valid))
    windows = Windows(valid, spacing * ones, stride * ones)
    return Batch(labels[:, None].float() / 2 - 0.8, labels, windows=windows)


@pytest.mark.parametrize("name", ["edm", "edm-volume"])
@pytest.mark.parametrize("encoding", ["onehot", "index"])
def test_gradients_reach_every_parameter(name, encoding):
    model = make(name, mask_encoding=encoding, attention=[4], dropout=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(4):  # layers that begin at zero block those before them in the first steps
        optimizer.zero_grad()
        batch = batch_of([[True] * 4] * 2, spacing=3.0)
        model.loss("denoiser", batch, rng_of(8, first=8 * step))["loss"].backward()
        optimizer.step()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert unreached == []


@pytest.mark.parametrize("chunk", [20, 6])
def test_without_mixing_a_volume_is_its_slices(chunk):
    """At zero mixing weights edm-volume is edm: whole, and in chunks but for the slices that both have."""
    slices, volumes = make_random("edm"), make("edm-volume", window=4).eval()
    volumes.load_state_dict(volumes.state_dict() | slices.state_dict())
    labels = labels_of(10)
    one_by_one = slices.generate(labels, rng=rng_of(10), sampler=RUN)
    together = volumes.generate_volume(labels, Stack(3.0, chunk), rng=rng_of(10), sampler=RUN)
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=0)


def test_a_volume_of_one_slice_is_drawn_and_chunks_overlap_by_half_a_window(monkeypatch):
    model, asked = make("edm-volume", window=6), []
    monkeypatch.setattr("ctsynth.methods.edm_volume.chunks", lambda *of: asked.append(of) or chunks(*of))
    drawn = model.generate_volume(labels_of(1), Stack(5.0, 9), rng=rng_of(1), sampler=RUN)
    assert drawn.shape == (1, 1, 16, 16)
    assert asked == [(1, 9, 3)]


def test_a_new_volume_model_has_no_mixing():
    volumes = make("edm-volume")
    assert {p.abs().max().item() for n, p in volumes.named_parameters() if n.endswith("mixing.conv.weight")} == {0}
    assert not any(p.abs().max() for p in volumes.unet.numbers.parameters())
    own = {name for name, _ in volumes.named_parameters()} - {name for name, _ in make("edm").named_parameters()}
    assert {name.split(".")[-3] for name in own if "mixing" in name} == {"mixing"}
    assert all("mixing" in name or "numbers" in name for name in own)


def test_a_slice_reads_its_neighbors():
    model, labels = make_random("edm-volume"), labels_of(9)
    other = labels.clone()
    other[4] = 2
    a, b = (model.generate_volume(each, Stack(3.0, 9), rng=rng_of(9), sampler=RUN) for each in (labels, other))
    changed = [(x - y).abs().max().item() > 1e-4 for x, y in zip(a, b, strict=True)]
    assert changed[3:6] == [True] * 3


@pytest.mark.parametrize("stack", [Stack(1.0, 9), Stack(15.0, 9)])
def test_a_volume_depends_on_its_spacing(stack):
    model = make_random("edm-volume")
    one = model.generate_volume(labels_of(5), Stack(5.0, 9), rng=rng_of(5), sampler=RUN)
    assert (one - model.generate_volume(labels_of(5), stack, rng=rng_of(5), sampler=RUN)).abs().max() > 1e-3


def test_the_network_reads_spacing_and_stride_as_logarithms_that_are_0_at_5_mm():
    model, read = make_random("edm-volume"), []
    model.unet.numbers.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    batch = batch_of([[True] * 4] * 3)
    windows = Windows(batch.windows.valid, torch.tensor([5.0, 10.0, 2.5]), torch.tensor([1.0, 2.0, 4.0]))
    model.loss("denoiser", Batch(batch.image, batch.labels, windows=windows), rng_of(12))
    expected = torch.tensor([[0.0, 0.0], [math.log(2), 1.0], [-math.log(2), 2.0]])
    torch.testing.assert_close(read[0], expected.repeat_interleave(4, 0))


def test_a_window_past_an_end_is_a_shorter_window():
    """What stands in the place of slices that are not there changes nothing."""
    torch.manual_seed(0)
    mixing = Mixing(8)
    torch.nn.init.normal_(mixing.conv.weight)
    x = torch.randn(6, 8, 4, 4)
    long = mixing(x, torch.tensor([[False, False, True, True, True, False]]))
    torch.testing.assert_close(long[2:5], mixing(x[2:5], torch.ones(1, 3, dtype=torch.bool)))


def test_mixing_is_a_convolution_along_z():
    torch.manual_seed(0)
    mixing = Mixing(8)
    torch.nn.init.normal_(mixing.conv.weight)
    x = torch.randn(2 * 5, 8, 4, 4)
    after, own, before = mixing.conv.weight.view(3, 8, 8).flip(0)  # as conv3d has them
    h = torch.nn.functional.silu(mixing.norm(x)).view(2, 5, 8, 4, 4).transpose(1, 2)
    kernel = torch.stack([after, own, before], dim=-1)[..., None, None]
    expected = torch.nn.functional.conv3d(h, kernel, padding=(1, 0, 0)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(mixing(x, torch.ones(2, 5, dtype=torch.bool)) - x, expected, atol=1e-5, rtol=1e-5)


def test_slices_that_stand_alone_are_windows_of_one_slice():
    torch.manual_seed(0)
    mixing = Mixing(8)
    torch.nn.init.normal_(mixing.conv.weight)
    x = torch.randn(6, 8, 4, 4)
    torch.testing.assert_close(mixing(x, None), mixing(x, torch.ones(6, 1, dtype=torch.bool)))


def test_slices_past_an_end_have_no_loss():
    model, valid = make_random("edm-volume"), [[False, True, True, True], [True, True, True, False]]
    batch = batch_of(valid)
    other = batch.labels.clone(), batch.image.clone()
    outside = ~batch.windows.valid.flatten()
    other[0][outside], other[1][outside] = 3, 0.9
    changed = Batch(other[1], other[0], windows=batch.windows)
    a, b = (model.loss("denoiser", each, rng_of(8))["loss"] for each in (batch, changed))
    assert a.isfinite()
    torch.testing.assert_close(a, b)


def test_parts_of_a_batch_have_its_loss():
    model, batch = make_random("edm-volume"), batch_of([[False, True, True, True], [True, True, True, True]])
    whole = model.loss("denoiser", batch, rng_of(8))["loss"]
    parts = [
        model.loss("denoiser", part, rng_of(4, first=4 * number))["loss"]
        for number, part in enumerate(batch.split(2))
    ]
    torch.testing.assert_close(whole, sum(parts) / 2)


def test_slices_of_a_window_have_levels_of_their_own_or_share_one():
    batch = batch_of([[True] * 4] * 500)
    sigma = make("edm-volume", shared_levels=0.3).levels(batch, rng_of(2000)).view(500, 4)
    shared = (sigma == sigma[:, :1]).all(1)
    assert shared.float().mean().item() == pytest.approx(0.3, abs=0.08)
    own = sigma[~shared].log()
    assert own.mean().item() == pytest.approx(-0.4, abs=0.15)
    assert own.std().item() == pytest.approx(1.4, rel=0.1)
    assert torch.corrcoef(own.T).fill_diagonal_(0).abs().max() < 0.2
    assert len(make("edm").levels(batch, rng_of(2000)).unique()) == 2000


def test_given_slices_stay_as_they_are_and_change_their_neighbors():
    model, labels = make_random("edm-volume"), labels_of(9)
    where = torch.arange(9) == 4
    real = torch.full((9, 1, 16, 16), 0.5)
    drawn = [
        model.generate_volume(labels, Stack(5.0, 9, known), rng=rng_of(9), sampler=RUN)
        for known in (None, Known(real, where), Known(-real, where))
    ]
    assert torch.equal(drawn[1][4], real[4])
    assert (drawn[1][3] - drawn[2][3]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["edm", "edm-volume"])
def test_slices_do_not_depend_on_their_batch(name):
    model, labels = make_random(name, label_dropout=0.2), labels_of(4)
    run = Sampler(steps=3, guidance=2.0)
    together = model.generate(labels, rng=rng_of(4), sampler=run)
    assert torch.equal(together, model.generate(labels, rng=rng_of(4), sampler=run))
    alone = model.generate(labels[2:3], rng=rng_of(1, first=2), sampler=run)
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=0)
    assert together.abs().max() <= 1
    assert (together - model.generate(labels, rng=rng_of(4), sampler=RUN)).abs().max() > 1e-3  # unguided


@pytest.mark.parametrize("name", ["edm", "edm-volume"])
def test_label_dropout_hides_the_maps_of_the_slices_it_draws_and_no_others(name):
    model, labels = make_random(name, label_dropout=0.5), labels_of(8)
    image = labels[:, None].float() / 2 - 0.8
    dropped = rng_of(8).uniform("label dropout") < 0.5
    assert 0 < dropped.sum() < 8
    before = model.loss("denoiser", Batch(image, labels), rng_of(8))["loss"]
    for row in range(8):
        changed = labels.clone()
        changed[row] = labels[row].T
        after = model.loss("denoiser", Batch(image, changed), rng_of(8))["loss"]
        assert torch.equal(before, after) == dropped[row].item()


def test_guidance_goes_on_from_the_null_map_at_levels_of_0_1_to_5():
    model, labels = make_random("edm", label_dropout=0.2), labels_of(4)
    sigma = torch.tensor([0.09, 0.1, 5.0, 5.1])
    x = 0.1 * sigma[:, None, None, None] * rng_of(4).normal("x", (1, 16, 16))
    with torch.no_grad():
        null = model.denoise(x, sigma, model.conditioner(labels, torch.zeros(4, dtype=torch.bool)))
        plain = model.denoise(x, sigma, model.conditioner(labels))
        guided = model.denoiser(labels, 1.5)(x, sigma)
    on = null + 1.5 * (plain - null)
    expected = torch.cat([plain[:1], on[1:3], plain[3:]]).clamp(-1, 1)
    assert (expected - plain.clamp(-1, 1)).abs().amax((1, 2, 3)).gt(1e-4).tolist() == [False, True, True, False]
    torch.testing.assert_close(guided, expected)


def test_guidance_needs_label_dropout():
    with pytest.raises(UsageError, match="`guidance` 2 needs a model trained with label dropout"):
        make("edm").generate(labels_of(1), rng=rng_of(1), sampler=Sampler(guidance=2.0))
    with pytest.raises(UsageError, match="label dropout"):
        make("edm-volume").generate_volume(
            labels_of(1), Stack(5.0, 9), rng=rng_of(1), sampler=Sampler(guidance=2.0)
        )


def test_the_denoiser_scales_what_the_network_reads_and_says(monkeypatch):
    """D(x; sigma) = c_skip x + c_out F(c_in x; ln sigma) (Karras et al. 2022, Eq. 7)."""
    model, read = make("edm"), []

    def network(x, t, *_):
        read.extend([x, t])
        return torch.full_like(x, 0.7)

    monkeypatch.setattr(model, "network", network)
    sigma, x = torch.tensor([0.02, 0.5, 7.0]), rng_of(3).normal("x", (1, 16, 16))
    column, scales = sigma[:, None, None, None], Scales()
    torch.testing.assert_close(
        model.denoise(x, sigma, None), scales.skip(column) * x + 0.7 * scales.output(column)
    )
    torch.testing.assert_close(read[0], to_patches(scales.input(column) * x, 2))
    torch.testing.assert_close(read[1], timesteps(sigma))


def test_in_training_each_slice_has_noise_of_its_level(monkeypatch):
    model, seen = make("edm"), []

    def denoise(noisy, sigma, *_):
        seen.extend([noisy, sigma])
        return noisy

    monkeypatch.setattr(model, "denoise", denoise)
    image = labels_of(8)[:, None].float() / 2 - 0.8
    loss = model.loss("denoiser", Batch(image, labels_of(8)), rng_of(8))["loss"]
    noisy, sigma = seen
    noise = (noisy - image) / sigma[:, None, None, None]
    assert noise.mean((1, 2, 3)).abs().max() < 0.3  # 0.06 is a standard error
    assert (noise.std((1, 2, 3)) - 1).abs().max() < 0.2
    power = (sigma * noise.square().mean((1, 2, 3)).sqrt()).square()
    torch.testing.assert_close(loss, (Scales().weight(sigma) * power).mean())


def test_a_network_that_outputs_zero_has_a_loss_of_at_most_one():
    """F = 0 is the best linear denoiser of data with deviation 0.5, and the loss weighs its error to 1."""
    model = make("edm")
    image = 0.5 * torch.randn(256, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    loss = model.loss("denoiser", Batch(image, labels_of(256)), rng_of(256))["loss"]
    assert loss.item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(("name", "parameters", "gigaflops"), [("edm", 144.0, 391), ("edm-volume", 158.0, 428)])
def test_the_papers_preset_costs_no_more_than_is_promised(name, parameters, gigaflops):
    """edm at most the conditional DDPM's 500 GFLOP a slice and evaluation, edm-volume 600."""
    counted = cost(name, num_classes=17, size=256)
    assert counted.parameters["denoiser"] / 1e6 == pytest.approx(parameters, abs=0.05)
    assert counted.flops / 1e9 == pytest.approx(gigaflops, abs=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level_std": 0}, "level_std must be above 0"),
        ({"encoder_channels": 6}, "encoder_channels must divide by 4"),
        ({"window": 1}, "window is 1"),
        ({"strides": []}, "strides must be one or more numbers"),
        ({"heads": 0, "head_channels": 12}, "head_channels"),
    ],
)
def test_invalid_settings_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make("edm-volume", **options)
