import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cases import make_small_case
from small_runs import CPU, OPTIONS, SMALL, fit, labels_like
from small_stores import both_splits

from ctsynth.data.volume import Volume
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import DataError
from ctsynth.methods import base
from ctsynth.networks.conditioning import MaskEncoder
from ctsynth.networks.unet import UNet
from ctsynth.randomness import BatchRNG
from ctsynth.sampling.batches import SamplingConfig, Slices, draw, sample_batches
from ctsynth.sampling.cases import cases_of_masks
from ctsynth.sampling.volumes import sample
from ctsynth.stop import Stop
from ctsynth.training import checkpoint

GUIDED = OPTIONS | {"encoder_channels": 8}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A checkpoint of a method's first step, its layers that begin at zero drawn at random."""
    store = both_splits(tmp_path_factory.mktemp("store"), make_small_case, size=32)

    def loaded(method):
        options = GUIDED if method in ("ddpm-mask", "ddpm-edge") else SMALL.get(method, OPTIONS)
        run = fit(store, tmp_path_factory.mktemp(method), method, options=options, iterations=1)
        trained = checkpoint.load(checkpoint.find(run), CPU)
        for parameter in trained.method.parameters():
            if not parameter.abs().max() > 1e-3:
                torch.nn.init.normal_(parameter, std=0.05)
        return trained

    return loaded


def volumes(*counts, size=32):
    rng = np.random.default_rng(0)
    return [
        Slices(f"v{number}", rng.integers(17, size=(count, size, size)).astype(np.uint8), 5.0)
        for number, count in enumerate(counts)
    ]


def drawing(trained, **how):
    return SamplingConfig(sampler=Sampler(steps=3) if trained.method.samplers else None, **how)


@pytest.mark.parametrize("method", base.method_names())
def test_a_volume_is_bit_for_bit_the_same_alone_and_among_others(load, method):
    trained = load(method)
    how = drawing(trained, batch_size=4)
    together = list(sample_batches(trained, volumes(3, 6, 1), how))
    assert [volume.name for volume in together] == ["v0", "v1", "v2"]
    for volume in together:
        alone = draw(trained, volume.masks, 5.0, volume.name, how)
        assert len(np.unique(alone)) > 1
        np.testing.assert_array_equal(volume.hu, alone)


def test_a_choice_changes_only_the_volume_it_is_given_for(load):
    trained = load("pix2pix")
    masks = volumes(3)[0].masks
    before, chosen, after = (
        draw(trained, masks, 5.0, "v0", drawing(trained, choices=choices))
        for choices in ({}, {"pix2pix_test": "original"}, {"pix2pix_test": "eval"})
    )
    assert (before != chosen).any()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_draw_no_volume(load, value):
    trained = load("ddpm-concat")
    next(iter(trained.method.parameters())).data[0] = value
    with pytest.raises(DataError, match="step_000000001: what it draws for v0 is not finite"):
        draw(trained, volumes(2)[0].masks, 5.0, "v0", drawing(trained))


def test_batches_are_full_and_reach_over_volumes(load, monkeypatch):
    trained, seen = load("ddpm-concat"), []
    generate = type(trained.method).generate

    def watched(self, labels, *, rng, sampler):
        seen.append([key[0][0][2] for key in rng.items])
        return generate(self, labels, rng=rng, sampler=sampler)

    monkeypatch.setattr(type(trained.method), "generate", watched)
    list(sample_batches(trained, volumes(3, 6, 1), drawing(trained, batch_size=4, noise="slice")))
    assert seen == [["v0", "v0", "v0", "v1"], ["v1"] * 4, ["v1", "v2", "v2", "v2"]]


def test_a_volume_is_there_as_soon_as_its_last_slice_is(load):
    trained, told = load("ddpm-concat"), []

    def opened():
        for volume in volumes(4, 4):
            told.append(f"open {volume.name}")
            yield volume

    told.extend(
        f"drawn {volume.name}" for volume in sample_batches(trained, opened(), drawing(trained, batch_size=4))
    )
    assert told == ["open v0", "drawn v0", "open v1", "drawn v1"]


@pytest.mark.parametrize("method", ["ddpm-mask", "ddpm-edge"])
def test_a_label_map_is_encoded_once_and_not_once_a_step(load, method, monkeypatch):
    trained, rows = load(method), {MaskEncoder: 0, UNet: 0}
    for network in rows:
        forward = network.forward

        def counted(self, x, *rest, forward=forward, network=network):
            rows[network] += len(x)
            return forward(self, x, *rest)

        monkeypatch.setattr(network, "forward", counted)
    list(sample_batches(trained, volumes(3, 5), replace(drawing(trained), batch_size=4, sampler=Sampler(steps=7))))
    assert rows == {MaskEncoder: 8, UNet: 7 * 8}


def test_joined_draws_equal_the_draws_of_their_parts():
    parts = [
        BatchRNG.smooth(("a",), [0.0, 5.0], [(12.0, 1.0)], CPU),
        BatchRNG.at([("b", 1), ("b", 2)], CPU, group=("b",)),
        BatchRNG.at([("c", 1)], CPU),
    ]
    whole = BatchRNG.joined(parts)
    for ask in (
        lambda draws: draws.normal("x", (2, 3)),
        lambda draws: draws.shared("z", (4,)),
        lambda draws: draws.integers("t", 1000),
    ):
        assert torch.equal(ask(whole), torch.cat([ask(part) for part in parts]))


def test_a_volume_is_written_while_the_next_one_is_drawn(load, tmp_path, small_case, write_nifti, monkeypatch):
    trained, drawn, waited = load("ddpm-concat"), threading.Event(), []
    for number in range(2):
        case = small_case(number)
        write_nifti(tmp_path / "masks" / f"m{number}.nii.gz", labels_like(case), case.affine)
    generate, save, count = type(trained.method).generate, Volume.save, 0

    def watched(self, labels, **more):
        nonlocal count
        count += 1
        if count == 2:
            drawn.set()
        return generate(self, labels, **more)

    def slow(self, path, *words):
        waited.append(drawn.wait(60))
        save(self, path, *words)

    monkeypatch.setattr(type(trained.method), "generate", watched)
    monkeypatch.setattr(Volume, "save", slow)
    cases = cases_of_masks(tmp_path / "masks", trained, None)
    paths = list(sample(trained, cases, drawing(trained, batch_size=6), stop=Stop()))
    assert [path.name for path in paths] == ["m0_synthetic.nii.gz", "m1_synthetic.nii.gz"]
    assert waited == [True, True]
