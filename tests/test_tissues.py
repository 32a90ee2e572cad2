"""A label set with tissues, from CT to store, training, drawing and scores: organs and body stay as they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from label_names import write_names
from scipy import ndimage
from small_runs import CPU, fit
from small_stores import write_synthetic

from ctsynth.data.loader import SliceDataset
from ctsynth.data.masks import complete
from ctsynth.data.preprocess import preprocess
from ctsynth.data.relabel import Labels
from ctsynth.data.settings import Settings
from ctsynth.data.slices import from_slices
from ctsynth.data.split_body import join_body, split_body
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import DataError
from ctsynth.label_files import label_set
from ctsynth.labels import AMOS22, LabelSet
from ctsynth.sampling.batches import SamplingConfig
from ctsynth.sampling.cases import cases_of_masks, cases_of_store
from ctsynth.sampling.settings import MaskSettings
from ctsynth.sampling.volumes import sample
from ctsynth.scoring.run import score
from ctsynth.stop import Stop
from ctsynth.training import checkpoint
from ctsynth.training.configure import configure
from ctsynth.training.stepper import Stepper

WITH = label_set("amos22+tissues")
GAS, FAT, SOFT, DENSE = (tissue.id for tissue in WITH.tissue_classes)


def patient(small_case, seed):
    """A small case with a rim of fat and a spine."""
    case = small_case(seed)
    x, y, _ = np.meshgrid(np.arange(32) - 15.5, np.arange(24) - 11.5, np.arange(6), indexing="ij")
    radius = (x / 12.5) ** 2 + (y / 9.2) ** 2
    case.hu[(radius > 0.6) & (radius <= 1) & (case.labels == 0)] -= 140
    case.hu[(np.abs(x) < 2) & (y < -3) & (radius < 0.6) & (case.labels == 0)] = 500
    return case


@pytest.fixture
def amos(tmp_path, small_case, write_nifti):
    """Two training subjects and one test subject in AMOS22's layout."""
    root = tmp_path / "amos"
    for end, number in (("Tr", 1), ("Tr", 2), ("Va", 101)):
        case = patient(small_case, number)
        write_nifti(root / f"images{end}" / f"amos_{number:04}.nii.gz", case.hu, case.affine)
        write_nifti(root / f"labels{end}" / f"amos_{number:04}.nii.gz", case.labels, case.affine)
    return root


def made(amos, labels=WITH, size=32):
    out = amos.parent / f"out_{labels.name}_{size}"
    preprocess(amos, out, settings=Settings(size=size, labels=labels), workers=1)
    return Store.open(out)


def drawn(trained, cases):
    how = SamplingConfig(sampler=Sampler(steps=2))
    return [Volume.load(path).voxels for path in sample(trained, cases, how, stop=Stop())]


@pytest.fixture
def trained(amos, tmp_path):
    run = fit(made(amos, size=16), tmp_path / "run", lr=3e-2, ema=0.1)
    return checkpoint.load(checkpoint.find(run), CPU)


def test_the_body_keeps_its_id_and_the_tissues_follow_it():
    assert WITH.body_id == AMOS22.body_id == 16
    assert {n: WITH.names[n] for n in (16, 17, 18, 19, 20)} == {
        16: "body", 17: "gas", 18: "fat", 19: "soft_tissue", 20: "dense",
    }  # fmt: skip
    assert (AMOS22.num_classes, WITH.num_classes) == (17, 21)
    assert WITH.without_tissues == AMOS22
    assert LabelSet.from_json(json.loads(json.dumps(WITH.as_json()))) == WITH
    assert replace(WITH, tissues=replace(WITH.tissues, fat_below=-40)) != WITH
    assert label_set("totalsegmentator+tissues").num_classes == label_set("totalsegmentator").num_classes + 4


def test_the_union_of_the_tissues_is_the_body_voxel_for_voxel(amos):
    plain, split = made(amos, AMOS22), made(amos)
    for one, other in zip(plain.subjects("train"), split.subjects("train"), strict=True):
        assert {GAS, FAT, SOFT, DENSE} <= set(np.unique(other.mask()))
        assert not (other.mask() == WITH.body_id).any()
        np.testing.assert_array_equal(join_body(np.asarray(other.mask()), WITH), one.mask())
        np.testing.assert_array_equal(other.ct(), one.ct())


def test_real_tissues_are_the_body_and_their_shares_are_those_of_a_patient(real_ct, tmp_path):
    stores = []
    for labels in (AMOS22, WITH):
        preprocess(real_ct, tmp_path / labels.name, settings=Settings(size=128, labels=labels), workers=1)
        stores.append(Store.open(tmp_path / labels.name))
    for split in ("train", "test"):
        plain, told = (store.subjects(split)[0] for store in stores)
        mask = np.asarray(told.mask())
        np.testing.assert_array_equal(join_body(mask, WITH), plain.mask())
        body = (mask >= WITH.body_id).sum()
        shares = [(mask == tissue).sum() / body for tissue in (GAS, FAT, SOFT, DENSE)]
        for share, (low, high) in zip(shares, [(0, 0.12), (0.3, 0.6), (0.3, 0.6), (0.01, 0.12)], strict=True):
            assert low < share < high


def test_a_body_that_is_split_is_not_missing(amos):
    done = preprocess(amos, amos.parent / "split", settings=Settings(size=32, labels=WITH), workers=1)
    assert "body" not in done.absent()
    assert "pancreas" in done.absent()


def painted(labels, of, ct):
    """Each class of ``labels`` in the mean that it has in ``of``, as PSNR against ``ct``, in the window, dB."""
    means = np.full(256, -160.0)
    for number in np.unique(of)[1:]:
        means[number] = ct[of == number].mean()
    return -10 * np.log10((((means[labels] - ct) / 400.0) ** 2).mean())


@pytest.mark.parametrize(("split", "end", "name"), [("train", "Tr", "0001"), ("test", "Va", "0002")])
def test_labels_give_away_anatomy_and_not_texture(real_ct, tmp_path, split, end, name):
    """With class means painted in, the tissues of a noisy or blurred CT do nearly as well as those of the CT."""
    preprocess(real_ct, tmp_path / "out", settings=Settings(size=128, labels=WITH), workers=1)
    subject = Store.open(tmp_path / "out").subjects(split)[0]
    mask, ct = np.asarray(subject.mask()), np.asarray(subject.ct()).astype(float)
    volume = Volume.load(real_ct / f"images{end}" / f"ts_example_{name}.nii.gz")
    hu, spacing = volume.voxels.astype(np.float32), volume.geometry.spacing
    body = join_body(mask, WITH)
    noisy = hu + np.random.default_rng(0).normal(0, 30, hu.shape).astype(np.float32)
    blurred = ndimage.gaussian_filter(hu, [2 / spacing[0], 2 / spacing[1], 0])
    whole = painted(mask, mask, ct)
    assert painted(split_body(body, noisy, spacing, WITH), mask, ct) > whole - 0.5
    assert painted(split_body(body, blurred, spacing, WITH), mask, ct) > whole - 0.8
    assert whole < 26  # the slice itself is not in them
    assert whole > painted(body, body, ct) + 2


def test_a_share_of_the_training_slices_has_the_body_as_one_class(amos, tmp_path):
    store = made(amos, size=16)
    counts = {}
    for rate in (0.0, 0.25, 1.0):
        training = {"iterations": 1, "tissue_dropout": rate, "seed": 3}
        config = configure(store, "ddpm-concat", preset="tiny", options={}, training=training, device=CPU)
        stepper = Stepper(config, SliceDataset(store, "train"), device=CPU, precision="fp32")
        labels = stepper._batch(range(400)).labels
        joined = (labels == WITH.body_id).any(dim=(1, 2))
        split = (labels > WITH.body_id).any(dim=(1, 2))
        assert not (joined & split).any()
        counts[rate] = int(joined.sum())
        torch.testing.assert_close(stepper._batch(range(100, 140)).labels, labels[100:140])
    assert counts[0.0] == 0
    assert counts[1.0] == 400
    assert abs(counts[0.25] - 400 * 0.25) < 4 * (400 * 0.25 * 0.75) ** 0.5


def test_a_segmenter_has_the_body_as_one_class(amos, tmp_path):
    store = made(amos)
    run = fit(store, tmp_path / "segmenter", "unet2d")
    config = checkpoint.RunConfig.read(checkpoint.find(run) / "config.json")
    assert checkpoint.make_model(config).num_classes == AMOS22.num_classes


def test_a_store_is_drawn_from_its_tissues_or_from_the_body(amos, trained, tmp_path):
    store = made(amos, size=16)
    (with_tissues,) = drawn(trained, cases_of_store(store, "test", trained, tmp_path / "a"))
    (from_body,) = drawn(
        trained, cases_of_store(store, "test", trained, tmp_path / "b", MaskSettings(tissues=False))
    )
    assert (with_tissues != from_body).any()
    records = [json.loads((tmp_path / place / "amos_0101.json").read_text())["tissues"] for place in ("a", "b")]
    assert records == ["label", "none"]


def test_a_plain_mask_is_drawn_from_its_body_with_a_notice_or_from_the_tissues_of_its_ct(
    amos, trained, tmp_path, caplog
):
    mask, ct = (amos / kind / "amos_0101.nii.gz" for kind in ("labelsVa", "imagesVa"))
    drawn(trained, cases_of_masks(mask, trained, tmp_path / "plain"))
    assert "drawn from the body as one class" in caplog.text
    caplog.clear()
    (told,) = drawn(trained, cases_of_masks(mask, trained, tmp_path / "ct", MaskSettings(body_from=ct)))
    assert "as one class" not in caplog.text
    (not_told,) = drawn(
        trained, cases_of_masks(mask, trained, tmp_path / "no", MaskSettings(body_from=ct, tissues=False))
    )
    assert (told != not_told).any()
    kept = {
        place: json.loads(next((tmp_path / place).glob("*.json")).read_text())["tissues"]
        for place in ("plain", "ct", "no")
    }
    assert kept == {"plain": "none", "ct": "ct", "no": "none"}


def test_classes_of_totalsegmentator_are_tissues_by_name(amos, trained, tmp_path, write_nifti):
    """What our own tissues say, in TotalSegmentator's numbers and names, is drawn alike."""
    mask, ct = (amos / kind / "amos_0101.nii.gz" for kind in ("labelsVa", "imagesVa"))
    source = Volume.load(mask)
    (case,) = cases_of_masks(mask, trained, None, MaskSettings(body_from=ct))
    masks = case.read()
    names = {
        1: "spleen",
        6: "liver",
        GAS: "lung_upper_lobe_left",
        FAT: "subcutaneous_fat",
        SOFT: "skeletal_muscle",
    }
    names[DENSE] = "vertebrae_L1"
    own = from_slices(masks.slices, source.geometry, "labels")
    path = write_nifti(tmp_path / "ts.nii.gz", own.astype(np.uint8), source.geometry.affine)
    write_names(path, names)
    (named,) = cases_of_masks(path, trained, tmp_path / "named")
    found = named.read()
    assert found.tissues == "label"
    np.testing.assert_array_equal(found.slices, masks.slices)


def test_bones_and_lungs_alone_leave_a_body_to_find(small_case):
    case = patient(small_case, 1)
    voxels = case.labels.copy()
    voxels[case.hu > 300] = DENSE
    inside = case.hu > -500
    done = complete(Labels("seg", voxels, None, {}), WITH, lambda organs: inside | organs, None)
    assert not done.has_body
    assert (done.voxels[inside] > 0).all()
    assert (done.voxels == WITH.body_id).any()
    assert ((done.voxels == DENSE) == (case.hu > 300)).all()


def test_sets_are_never_mixed(amos, trained, tmp_path):
    with pytest.raises(DataError, match=r"amos22.*amos22\+tissues"):
        cases_of_store(made(amos, AMOS22, size=16), "test", trained, tmp_path)


def test_organ_hu_does_not_count_tissues_as_organs(amos, tmp_path):
    results = {}
    for labels in (AMOS22, WITH):
        store = made(amos, labels)
        folder = write_synthetic(tmp_path / labels.name, store)
        results[labels.name] = score(Path(folder), store, "test", metrics=["hu"]).metrics["hu"]
    assert results["amos22"].total == results["amos22+tissues"].total
    assert set(results["amos22+tissues"].per_organ) == {"spleen", "liver", "gas", "fat", "soft_tissue", "dense"}
