"""fid-planes, coverage and frechet, with a stub in the place of the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from degraded_pairs import class_means, real_pairs, shuffled
from measured_metrics import make_metric
from small_cases import make_small_case
from small_runs import fit
from small_stores import both_splits, make_store

from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.features.frechet import frechet_distance
from ctsynth.labels import AMOS22
from ctsynth.metrics import _inception
from ctsynth.metrics._inception import OTHER_WEIGHTS
from ctsynth.metrics.base import Context
from ctsynth.metrics.coverage import Coverage
from ctsynth.metrics.fid import FID
from ctsynth.metrics.fid_planes import FIDPlanes
from ctsynth.metrics.frechet import Frechet
from ctsynth.scoring.measuring import measured
from ctsynth.segmentation.settings import Segmenting


class Stub:
    """Stands for the network: pixels at fixed places of a slice of any shape."""

    def __init__(self, tensors):
        pass

    def __call__(self, slices):
        height, width = slices.shape[1:]
        rows, columns = np.random.default_rng(0).random((2, 2048))
        return slices[:, (rows * height).astype(int), (columns * width).astype(int)].astype(np.float32)


@pytest.fixture(autouse=True)
def stub(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "other.pth")
    monkeypatch.setenv(OTHER_WEIGHTS, str(tmp_path / "other.pth"))
    monkeypatch.setattr(_inception, "Inception", Stub)
    monkeypatch.setattr(_inception, "absent", lambda: "")
    monkeypatch.setattr(_inception, "version", lambda package: "0")


@pytest.fixture
def store(tmp_path):
    """Two subjects to train on and two to score, 12 slices of 32 x 32 at 1.5 mm, all of them body."""
    settings = {"size": 32, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    geometry, names = Geometry((32, 32, 12), np.diag([1.5, 1.5, 1.5, 1])), []
    for number in range(4):
        rng = np.random.default_rng(number)
        walk = np.cumsum(rng.normal(0, 10, (12, 32, 32)), axis=0)  # slices that change step by step
        split = "train" if number < 2 else "test"
        record = {"name": f"subject_{number}", "split": split, "geometry": geometry.as_json()}
        ct = np.clip(walk, -160, 240).astype(np.int16)
        write_subject(tmp_path / "out", record, settings, ct, np.full(ct.shape, AMOS22.body_id, np.uint8))
        names.append((split, record["name"]))
    write_manifest(tmp_path / "out", settings, names)
    return Store.open(tmp_path / "out")


def result(kind, store, pairs):
    metric = make_metric(kind, store)
    return metric.result({pair.subject: measured(metric, pair) for pair in pairs})


def test_where_nothing_is_resampled_the_axial_planes_have_the_fid_of_slices(store):
    pairs = [replace(pair, synthetic=pair.real**2) for pair in real_pairs(store)]
    planes, axial = result(FIDPlanes, store, pairs), result(FID, store, pairs)
    assert planes.variants["xy"].total == axial.total
    assert [planes.variants[name].total.n for name in ("xy", "xz", "yz")] == [24, 64, 64]
    assert planes.total.value == pytest.approx(np.mean([one.total.value for one in planes.variants.values()]))


def test_shuffled_slices_are_the_same_slices_and_other_planes(store):
    found = result(FIDPlanes, store, [shuffled(pair) for pair in real_pairs(store)])
    each = {name: one.total.value for name, one in found.variants.items()}
    assert each["xy"] == pytest.approx(0, abs=1e-6)
    assert min(each["xz"], each["yz"]) > 1


def test_real_planes_are_right_and_the_floor_is_that_of_the_other_split(store):
    metric = make_metric(FIDPlanes, store)
    records = {pair.subject: measured(metric, pair) for pair in real_pairs(store)}
    assert metric.result(records).total.value == pytest.approx(0, abs=1e-6)
    floor = metric.floor(records)
    assert floor.total.value > 1
    axial = make_metric(FID, store)
    same = axial.floor({pair.subject: measured(axial, pair) for pair in real_pairs(store)})
    assert floor.variants["xy"].total == same.total


def test_with_other_weights_no_plane_is_called_fid(store):
    metric = make_metric(FIDPlanes, store)
    found = metric.result({pair.subject: measured(metric, pair) for pair in real_pairs(store)})
    assert metric.key == "fd_smoke-planes"
    assert not [one.title for one in (found, *found.variants.values()) if "FID" in one.title]


def test_planes_with_little_body_are_no_planes(store):
    pair = real_pairs(store)[0]
    mask = np.zeros_like(pair.mask)
    mask[:6, :, :16] = AMOS22.body_id
    found = result(FIDPlanes, store, [replace(pair, subject="other", mask=mask)])
    assert [found.variants[name].total.n for name in ("xy", "xz", "yz")] == [6, 32, 16]


def test_real_slices_are_all_covered_class_means_cover_few_and_one_subject_its_own(store):
    pairs = real_pairs(store)
    real = result(Coverage, store, pairs)
    assert real.total.value == 1
    assert real.title == "Coverage (Inception, other weights)"
    means = result(Coverage, store, [class_means(pair, noise=0) for pair in pairs])
    assert means.total.value < 0.5
    one = [pairs[0], replace(pairs[1], synthetic=pairs[0].real)]  # every synthetic slice of one subject
    collapsed = result(Coverage, store, one)
    assert collapsed.total.value == pytest.approx(0.5, abs=0.15)
    assert collapsed.per_subject[pairs[0].subject] == 1
    assert collapsed.variants["density"].total.value == pytest.approx(
        real.variants["density"].total.value, rel=0.3
    )


def test_the_floor_of_coverage_is_that_of_other_subjects(store):
    metric = make_metric(Coverage, store)
    records = {pair.subject: measured(metric, pair) for pair in real_pairs(store)}
    floor = metric.floor(records)
    assert 0 <= floor.total.value < 1
    assert floor.total.n == metric.result(records).total.n
    assert list(floor.variants["density"].per_subject) == ["subject_0", "subject_1"]


def test_slices_without_a_body_are_left_out_and_five_neighbors_are_wanted(store):
    pair = real_pairs(store)[0]
    mask = pair.mask.copy()
    mask[:4] = 0
    assert result(Coverage, store, [replace(pair, subject="other", mask=mask)]).total.n == 8
    mask[:9] = 0
    assert result(Coverage, store, [replace(pair, subject="other", mask=mask)]).total.value is None


def test_without_inception_a_trained_segmenters_features_are_taken_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(_inception, "absent", lambda: "pytorch-fid is not installed")
    store = both_splits(tmp_path / "two", make_small_case, size=32)
    context = Context(store=store, split="test", files={}, segmenting=Segmenting(), masks=tmp_path)
    assert "pytorch-fid or its weights are not here" in FIDPlanes.make(context)
    assert "or a run of ctsynth train-segmenter" in Coverage.make(context)
    fit(store, tmp_path / "runs" / "seg", "unet2d", iterations=2)
    metric = Coverage.make(replace(context, segmenting=Segmenting(str(tmp_path / "runs" / "seg"), "cpu")))
    records = {pair.subject: measured(metric, pair) for pair in real_pairs(store)}
    assert records["subject_t"]["real"].shape == (6, 16)
    found = metric.result(records)
    assert found.title == "Coverage (2-D U-Net of run seg)"
    assert found.total.value == 1
    assert metric.floor(records).total.n == 6


def test_a_segmenters_features_are_kept_in_the_store(tmp_path, monkeypatch):
    store = both_splits(tmp_path / "two", make_small_case, size=32)
    monkeypatch.setattr(_inception, "absent", lambda: "none")
    fit(store, tmp_path / "runs" / "seg", "unet2d", iterations=2)
    context = Context(
        store=store, split="test", files={}, segmenting=Segmenting(str(tmp_path / "runs" / "seg"), "cpu"),
        masks=tmp_path,
    )  # fmt: skip
    Coverage.make(context).ahead(store.subjects("train"))
    monkeypatch.setattr("ctsynth.segmentation.trained.TrainedSegmenter.features", lambda *_: pytest.fail("again"))
    Coverage.make(context).ahead(store.subjects("train"))


def test_a_store_without_training_slices_has_no_floor(tmp_path, small_case):
    small = make_store(tmp_path / "small", [small_case(0)])
    for kind in (FIDPlanes, Coverage):
        metric = make_metric(kind, small)
        assert metric.floor({pair.subject: measured(metric, pair) for pair in real_pairs(small)}) is None


def test_the_distance_on_a_segmenters_features_is_zero_for_real_slices_and_never_called_fid(tmp_path):
    store = both_splits(tmp_path / "two", make_small_case, size=32)
    context = Context(store=store, split="test", files={}, segmenting=Segmenting(), masks=tmp_path)
    assert "ctsynth train-segmenter" in Frechet.make(context)
    fit(store, tmp_path / "runs" / "seg", "unet2d", iterations=2)
    metric = Frechet.make(replace(context, segmenting=Segmenting(str(tmp_path / "runs" / "seg"), "cpu")))
    pairs = real_pairs(store)

    def distance(pairs):
        return metric.result({pair.subject: measured(metric, pair) for pair in pairs})

    real, means = distance(pairs), distance([class_means(pair, noise=0) for pair in pairs])
    assert real.title == "Fréchet distance (2-D U-Net of run seg)"
    assert real.total.value == pytest.approx(0, abs=1e-9)
    assert means.total.value > 1e-6
    assert "of 6 slices, no more than its 16 features" in real.notes[0]
    floor = metric.floor({pair.subject: measured(metric, pair) for pair in pairs})
    test, train = (
        np.concatenate([metric.extractor.features_of(one) for one in store.subjects(split)])
        for split in ("test", "train")
    )
    assert floor.total.value == pytest.approx(frechet_distance(test, train), rel=1e-3)
