"""Equality with SDM on fixed tensors.

sdm.npz was computed once with the official code (WeilunWang/semantic-diffusion-model, commit 7171f37, torch 2.13
on a CPU with one thread): UNetModel with 128 channels, channel_mult (1, 2), 1 residual block, attention at half
the resolution with 64 channels a head, scale-shift norm, resblock_updown and 5 classes, its first and last
convolution replaced by ones for a slice of one channel and its variance; diffusion linear, T = 1000, learn_sigma.
Weights (also of the layers that begin at zero) and inputs come from ``stream`` and ``fill`` below. Names beginning
with ``dropped_`` are of a batch whose second label map is the null map.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from ctsynth.methods import base
from ctsynth.trainable import Batch

LABEL_DROPOUT = 0.2
TIMESTEPS = torch.tensor([0, 300, 999])


def stream(name):
    return np.random.RandomState(zlib.crc32(name.encode()))


def fill(name, shape):
    values = stream(name).standard_normal(shape)
    if len(shape) > 1:
        return torch.from_numpy((values / np.sqrt(np.prod(shape[1:]))).astype(np.float32))
    return torch.from_numpy((0.1 * values + name.endswith("weight")).astype(np.float32))


PLACES = {  # of our modules in the official network
    "time": "time_embed",
    "conv_in": "input_blocks.0.0",
    "encoder.0.block": "input_blocks.1.0",
    "down.0": "input_blocks.2.0",
    "encoder.1.block": "input_blocks.3.0",
    "encoder.1.attention": "input_blocks.3.1",
    "middle_in.block": "middle_block.0",
    "middle_in.attention": "middle_block.1",
    "middle_out.block": "middle_block.2",
    "decoder.0.block": "output_blocks.0.0",
    "decoder.0.attention": "output_blocks.0.1",
    "decoder.1.block": "output_blocks.1.0",
    "decoder.1.attention": "output_blocks.1.1",
    "up.0": "output_blocks.1.2",
    "decoder.2.block": "output_blocks.2.0",
    "decoder.3.block": "output_blocks.3.0",
    "norm_out": "out.0",
    "conv_out": "out.2",
}
RESBLOCK = {"time": "emb_layers.1", "skip": "skip_connection"}
PLAIN = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
}
SPADE = {"norm_in": "in_norm", "conv_in": "in_layers.1", "norm_out": "out_norm", "conv_out": "out_layers.2"}


def official(name):
    """The official parameters whose concatenation is ours."""
    place = max((place for place in PLACES if name.startswith(f"{place}.")), key=len)
    first, *rest = name.removeprefix(f"{place}.").split(".")
    reads_map = place.startswith(("middle", "decoder", "up"))
    layers = {"out": "proj_out"} if place.endswith("attention") else RESBLOCK | (SPADE if reads_map else PLAIN)
    first = layers.get(first, first)
    joined = ".".join([PLACES[place], first, *rest]).replace("shared", "mlp_shared.0")
    return [joined.replace("gamma_beta", part) for part in ("mlp_gamma", "mlp_beta")[: 1 + ("gamma_beta" in name)]]


def filled(name, parameter):
    names = official(name)
    shape = (len(parameter) // len(names), *parameter.shape[1:])
    return torch.cat([fill(n, shape) for n in names])


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("sdm.npz"), allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def model():
    cls = base.find_method("sdm")
    options = cls.Options(multipliers=(1, 2), res_blocks=1, attention=(8,), label_dropout=LABEL_DROPOUT)
    method = cls(options, num_classes=5, size=16)
    unet = method.unet
    unet.load_state_dict({name: filled(name, value) for name, value in unet.state_dict().items()})
    return method.eval()


@pytest.fixture(scope="module")
def batch():
    labels = torch.from_numpy(stream("labels").randint(0, 5, (3, 1, 16, 16)))[:, 0]
    x0 = stream("x0").standard_normal((3, 1, 16, 16)).clip(-1, 1).astype(np.float32)
    return Batch(torch.from_numpy(x0), labels)


class Fixed:
    """Draws what the golden values were made with; drops the label maps of these rows."""

    def __init__(self, dropped):
        self.dropped = dropped

    def integers(self, name, high):
        return TIMESTEPS

    def normal(self, name, shape):
        return torch.from_numpy(stream("noise").standard_normal((3, *shape)).astype(np.float32))

    def uniform(self, name):
        return torch.tensor([LABEL_DROPOUT - 0.01 if row in self.dropped else LABEL_DROPOUT for row in range(3)])


def noised(model, batch):
    return model.process.q_sample(batch.image, TIMESTEPS, Fixed([]).normal("noise", (1, 16, 16)))


def close(ours, theirs, rtol=3e-4, atol=3e-5):
    """Up to float32 rounding, which differs between instruction sets: measured, at most 0.14 of this."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("kept", "name"), [(True, "output"), (False, "null")])
def test_the_network_with_the_official_weights(golden, model, batch, kept, name):
    segmap = model.conditioner(batch.labels, torch.full((3,), kept)).segmap
    with torch.no_grad():
        close(model.unet(noised(model, batch), TIMESTEPS, segmap=segmap), golden[name])


@pytest.mark.parametrize(("prefix", "dropped"), [("", []), ("dropped_", [1])])
def test_the_loss_and_its_gradient(golden, model, batch, prefix, dropped):
    model.zero_grad()
    terms = model.loss("denoiser", batch, Fixed(dropped))
    for name, term in terms.items():
        close(term.detach(), golden[f"{prefix}{name}"].mean())
    terms["loss"].backward()
    gradients = {f"unet.{n}": p.grad for n, p in model.unet.named_parameters()}
    close(torch.nn.utils.get_total_norm(gradients.values()), golden[f"{prefix}grad_norm"])
    theirs = {}  # of joined layers, each half
    for ours, gradient in gradients.items():
        names = official(ours.removeprefix("unet."))
        theirs |= dict(zip(names, gradient.chunk(len(names)), strict=True))
    kept = [key for key in golden if key.startswith(f"{prefix}grad_norm of ")]
    assert len(kept) == 5
    for key in kept:
        close(theirs[key.split(" of ")[1]].norm(), golden[key])


def test_guidance_moves_the_prediction_as_officially(golden, model, batch):
    x_t = noised(model, batch)
    with torch.no_grad():
        for scale, name in ((1.0, "plain"), (1.5, "guided")):
            x0, _ = model.denoiser(batch.labels, scale)(x_t, TIMESTEPS)
            for ours, theirs in zip(x0, golden[f"{name}_x0"], strict=True):  # of 1 at t = 0, of 100 at t = 999
                close(ours, theirs, atol=1e-5 * theirs.abs().amax().item())
    assert (golden["guided_x0"] - golden["plain_x0"]).abs().amax() > 0.1


def test_guidance_keeps_the_variance_unlike_the_official_code(golden, model, batch):
    # The official [:, :3] guides the first three channels: of a color image the prediction, of a slice v as well.
    low = model.process.schedule.posterior_log_variance_clipped
    high = np.log(model.process.schedule.betas)

    def v_of(log_variance):
        bottom, top = (torch.from_numpy(row[TIMESTEPS]).float().view(3, 1, 1, 1) for row in (low, high))
        return 2 * (log_variance - bottom) / (top - bottom) - 1

    with torch.no_grad():
        _, v = model.denoiser(batch.labels, 1.5)(noised(model, batch), TIMESTEPS)
    null, told = golden["null"][:, 1:], golden["output"][:, 1:]
    rows = TIMESTEPS != 999  # where the two bounds are too near to tell v from the variance
    close(v, told)
    close(v_of(golden["plain_log_variance"])[rows], told[rows], atol=2e-3)
    close(v_of(golden["guided_log_variance"])[rows], (null + 1.5 * (told - null))[rows], atol=2e-3)
    assert (v_of(golden["guided_log_variance"]) - v)[rows].abs().amax() > 0.1


def test_the_encoder_and_the_last_norm_do_not_see_the_label_map(model, batch):
    seen = []
    hooks = [
        model.unet.middle_in.register_forward_pre_hook(lambda _, args: seen.append(args[0])),
        model.unet.norm_out.register_forward_pre_hook(lambda _, args: seen.append(len(args))),
    ]
    with torch.no_grad():
        for labels in (batch.labels, batch.labels.roll(1, 0)):
            model.unet(noised(model, batch), TIMESTEPS, segmap=model.conditioner(labels).segmap)
    for hook in hooks:
        hook.remove()
    assert torch.equal(seen[0], seen[2])
    assert seen[1::2] == [1, 1]


def test_the_presets_are_the_papers_the_official_width_and_label_dropout():
    cls = base.find_method("sdm")
    assert cls.presets["sdm-official"].options == {"channels": 256}
    assert cls.presets["guided"].options == {"label_dropout": 0.2}
    assert {"paper", "small", "tiny"} < set(cls.presets)
    assert all(cls.Options(**preset.options) for preset in cls.presets.values())
