"""A segmenter learns label maps, by a loss and an augmentation that do what they say."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import CPU, fit
from small_stores import both_splits

from ctsynth import plugins
from ctsynth.data.preprocess import preprocess
from ctsynth.data.settings import Settings
from ctsynth.data.slices import stack, stacked_geometry
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.errors import UsageError
from ctsynth.phantom import make_phantom
from ctsynth.randomness import BatchRNG
from ctsynth.segmentation.trained import TrainedSegmenter
from ctsynth.segmenters._augmentation import _affine, augment, cutmix
from ctsynth.segmenters.unet2d import UNet2D, UNet2DOptions, _class_weights, overlaps, soft_dice
from ctsynth.stop import Stop
from ctsynth.trainable import Batch
from ctsynth.training.configure import configure
from ctsynth.training.run import train

BODY = 16
HALF = torch.zeros(1, 8, 8, dtype=torch.int64)
HALF[:, :4] = 6


def certain(labels):
    """Logits of a network that is sure of these labels."""
    return 100.0 * torch.nn.functional.one_hot(labels, BODY + 1).movedim(-1, 1)


def draws(*keys):
    return BatchRNG.at([(key,) for key in keys], CPU)


def dice(logits, labels):
    return soft_dice(overlaps(logits, labels))


def test_soft_dice_of_half_overlapping_boxes_is_a_half():
    moved = HALF.roll(2, dims=1)
    assert dice(certain(moved), HALF).item() == pytest.approx(0.5)
    assert dice(certain(HALF), HALF).item() == pytest.approx(1.0)


def test_background_body_and_organs_that_the_batch_does_not_show_are_no_part_of_the_dice():
    with_body = torch.where(HALF == 0, BODY, HALF)
    assert dice(certain(HALF), with_body).item() == pytest.approx(1.0)
    found = HALF.clone()
    found[:, 7] = 3
    assert dice(certain(found), HALF).item() == pytest.approx(1.0)
    assert dice(certain(HALF), torch.zeros_like(HALF)).item() == 0


def test_the_dice_is_of_the_batch_as_a_whole():
    labels = torch.cat([HALF, torch.zeros_like(HALF)])
    found = torch.cat([HALF, HALF])  # 1 in the first slice, 0 in the second
    assert dice(certain(found), labels).item() == pytest.approx(2 / 3)


def test_an_organ_of_one_pixel_counts_and_the_denominator_has_1e_5_more():
    background, one, absent, half, body = (9, 9, 9), (1, 1, 1), (0, 1, 0), (1, 2, 2), (4, 4, 4)
    sums = torch.tensor([background, one, absent, half, body], dtype=torch.float64).T
    assert soft_dice(sums).item() == pytest.approx((2 / (2 + 1e-5) + 2 / (4 + 1e-5)) / 2, rel=1e-9)


def test_the_loss_is_the_sum_of_its_weighted_terms():
    torch.manual_seed(0)
    options = UNet2DOptions(channels=4, multipliers=(1, 2), dice_weight=3.0, augmentation=0.0)
    model, batch = UNet2D(options, num_classes=BODY + 1, size=64), disc(2)
    terms = model.loss("segmenter", batch, draws(0, 1))
    torch.testing.assert_close(terms["loss"], terms["cross_entropy"] + 3 * terms["dice"])
    torch.testing.assert_close(terms["dice"], 1 - dice(model.network(batch.image), batch.labels))


def test_parts_of_a_batch_have_the_loss_of_the_whole_and_on_average_its_gradient():
    """Of slices that show different organs: a part's own Dice and class weights would be others."""
    torch.manual_seed(0)
    options = UNet2DOptions(channels=4, multipliers=(1, 2), augmentation=0.5, dropout=0.3)
    model = UNet2D(options, num_classes=BODY + 1, size=64)
    torch.nn.init.normal_(model.network.conv_out.weight)
    shown = disc(4)
    batch = replace(shown, labels=torch.where(shown.labels > 0, torch.tensor([6, 1, 6, 3])[:, None, None], 0))
    rngs = [draws(*range(4)), draws(0), draws(1), draws(2), draws(3)]

    def worked(part, rng):
        model.zero_grad()
        terms = model.loss("segmenter", part, rng)
        terms["loss"].backward()
        return terms, torch.cat([p.grad.flatten() for p in model.parameters()])

    whole, gradient = worked(batch, rngs[0])
    parts = batch.split(4)
    totals = sum(model.totals("segmenter", *each).detach() for each in zip(parts, rngs[1:], strict=True))
    found = [worked(replace(p, totals=totals), rng) for p, rng in zip(parts, rngs[1:], strict=True)]
    for terms, _ in found:
        torch.testing.assert_close(terms["dice"], whole["dice"])
    mean = torch.stack([terms["cross_entropy"] for terms, _ in found]).mean()
    torch.testing.assert_close(mean, whole["cross_entropy"])
    torch.testing.assert_close(torch.stack([g for _, g in found]).mean(0), gradient, rtol=1e-4, atol=1e-6)
    alone = torch.stack([worked(p, rng)[1] for p, rng in zip(parts, rngs[1:], strict=True)]).mean(0)
    assert (alone - gradient).norm() > 0.1 * gradient.norm()


def test_class_weights_fall_with_the_root_of_pixel_counts_and_average_1():
    pixels = torch.tensor([900.0, 0.0, 1.0])
    weight = _class_weights(pixels)
    assert (weight[2] / weight[0]).item() == pytest.approx(30.0)
    assert ((weight * pixels).sum() / pixels.sum()).item() == pytest.approx(1.0)


def disc(count=1, side=64):
    """Slices with a bright disc left of the middle, and its label map."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    labels = (((x - 0.35 * side) ** 2 + (y - 0.45 * side) ** 2) < (0.2 * side) ** 2).long() * 6
    image = torch.where(labels > 0, 0.5, -0.5)
    return Batch(image.expand(count, 1, side, side), labels.expand(count, side, side))


def test_slice_and_label_map_move_together_and_keep_their_classes():
    batch = disc(8)
    image, labels = augment(batch, draws(*range(8)), 1.0)
    assert set(labels.unique().tolist()) == {0, 6}
    assert ((image[:, 0] > 0) == (labels > 0)).float().mean() > 0.98
    shares = (labels > 0).float().mean((1, 2))
    assert shares.std() > 0.01
    assert image.min() >= -1
    assert image.max() <= 1


def test_without_strength_nothing_changes():
    batch = disc()
    image, labels = augment(batch, draws(0), 0.0)
    assert torch.equal(image, batch.image)
    assert torch.equal(labels, batch.labels)


def test_augmentation_does_not_depend_on_the_batch():
    several, alone = augment(disc(3), draws("a", "b", "c"), 1.0), augment(disc(1), draws("b"), 1.0)
    for whole, part in zip(several, alone, strict=True):
        torch.testing.assert_close(whole[1:2], part)


def test_nothing_is_mirrored_or_turned_by_more_than_15_degrees():
    matrices = _affine(torch.cartesian_prod(*[torch.tensor([-2.0, 2.0])] * 4))
    determinants = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]
    assert (determinants > 0.7).all()
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).rad2deg()
    assert angles.abs().max() <= 15


@pytest.mark.parametrize(("strength", "changed"), [(0.0, False), (1.0, True)])
def test_the_loss_is_of_augmented_slices(strength, changed):
    torch.manual_seed(0)
    options = UNet2DOptions(channels=4, multipliers=(1, 2), augmentation=strength)
    model, batch = UNet2D(options, num_classes=BODY + 1, size=64), disc(2)
    one, other = (model.loss("segmenter", batch, draws(*keys))["loss"] for keys in ((0, 1), (2, 3)))
    assert bool(one != other) == changed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 6}, "channels must divide by 4, not 6"),
        ({"multipliers": ()}, "multipliers must be one or more numbers"),
        ({"augmentation": -1}, "`augmentation` is -1, wanted .* at least 0"),
        ({"dropout": 1.0}, r"within \[0, 1\)"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        UNet2DOptions(**options)


def test_a_side_that_is_not_divisible_by_16_is_refused():
    with pytest.raises(UsageError, match=r"24 x 24 .* must divide by 16"):
        UNet2D(UNet2DOptions(), num_classes=BODY + 1, size=24)


def test_segmenters_are_no_methods():
    segmenters = plugins.names("ctsynth.segmenters")
    assert "unet2d" in segmenters
    assert not set(segmenters) & set(plugins.names("ctsynth.methods"))


def overlap(found, mask):
    return 2 * (found & mask).sum() / (found.sum() + mask.sum()) if mask.any() else np.nan


def dice_of(run, store, split):
    """Of each organ the mean over subjects."""
    segmenter, rows = TrainedSegmenter(run, "cpu"), []
    for subject in store.subjects(split):
        volume = Volume(stack(np.asarray(subject.ct())), stacked_geometry(subject.geometry, store.size))
        found, mask = segmenter.segment(volume, store.labels, subject.name).voxels, stack(subject.mask())
        rows.append([overlap(found == organ.id, mask == organ.id) for organ in store.labels.classes])
    table = np.array(rows)
    return np.nanmean(table[:, ~np.isnan(table).all(axis=0)], axis=0)


def test_a_few_slices_are_learned_by_heart(tmp_path, small_case):
    store = both_splits(tmp_path / "out", small_case, size=32)
    options = {"channels": 16, "multipliers": [1, 2, 4], "augmentation": 0.0}
    schedule = {"iterations": 100, "save_every": 100, "lr": 1e-2, "lr_schedule": "cosine", "clip_norm": 1.0}
    run = fit(store, tmp_path / "run", "unet2d", options=options, **schedule)
    assert dice_of(run, store, "train").min() > 0.9
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert set(rows[0]) >= {"loss", "cross_entropy", "dice", "grad_norm"}
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["cross_entropy"] + rows[-1]["dice"], rel=1e-4)


@pytest.mark.slow
def test_the_tiny_preset_finds_the_organs_of_phantoms_it_has_not_seen(tmp_path):
    make_phantom(tmp_path / "phantom", subjects=12, test_subjects=6, size=96, slices=24, seed=0)
    preprocess(tmp_path / "phantom", tmp_path / "store", settings=Settings(size=64), workers=1)
    store = Store.open(tmp_path / "store")
    config = configure(store, "unet2d", preset="tiny", options={}, training={}, device=CPU)
    train(store, tmp_path / "run", config, device=CPU, stop=Stop())
    assert dice_of(tmp_path / "run", store, "test").mean() > 0.62  # 0.70 with each of two seeds


def test_cutmix_pastes_a_box_of_the_next_slice_with_its_labels():
    count, side = 3000, 8
    image = torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 1, side, side)
    labels = torch.arange(count).view(-1, 1, 1).expand(count, side, side)
    rng = BatchRNG.at([("cutmix", number) for number in range(count)], CPU)
    assert cutmix(image, labels, rng, 0.0)[0] is image
    mixed, mixed_labels = cutmix(image, labels, rng, 1.0)
    assert (mixed[:, 0] == mixed_labels).all()
    is_other = mixed_labels != labels
    assert (mixed_labels[is_other] == labels.roll(-1, 0)[is_other]).all()
    rows, columns = is_other.any(2), is_other.any(1)
    assert (is_other == rows[:, :, None] & columns[:, None, :]).all()
    share = is_other.float().mean().item()
    assert share == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.015)  # of u in [0, 1): mean of (sqrt(u) - u / 4)^2
    half = cutmix(image, labels, rng, 0.5)[1] != labels
    mixed_slices, half_of_them = (boxes.any(2).any(1).float().mean().item() for boxes in (is_other, half))
    assert half_of_them == pytest.approx(mixed_slices / 2, abs=0.05)
