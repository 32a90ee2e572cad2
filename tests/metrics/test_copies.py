from dataclasses import replace

import numpy as np
import pytest
from degraded_pairs import blurred, class_means, real_pairs
from measured_metrics import make_metric, total
from small_stores import make_store

from ctsynth.metrics.base import Context
from ctsynth.metrics.copies import Copies
from ctsynth.scoring.measuring import measured
from ctsynth.segmentation.settings import Segmenting


@pytest.fixture(scope="module")
def pairs(phantoms):
    return real_pairs(phantoms)


def found(store, pairs):
    metric = make_metric(Copies, store)
    return metric.result({pair.subject: measured(metric, pair) for pair in pairs})


def planted(store, pairs, *, noise=0.0):
    """One training slice in the place of a synthetic one."""
    slices = pairs[1].synthetic.copy()
    slices[9] = store.window.normalize(store.subjects("train")[2].ct()[14])
    slices[9] += noise * np.random.default_rng(0).standard_normal(slices[9].shape)
    return [pairs[0], replace(pairs[1], synthetic=np.clip(slices, 0, 1)), pairs[2]]


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_training_slice_that_was_planted_is_found(phantoms, pairs, noise):
    before = found(phantoms, [class_means(pair) for pair in pairs])
    assert before.total.value == 0
    changed = found(phantoms, planted(phantoms, [class_means(pair) for pair in pairs], noise=noise))
    assert changed.total.value == pytest.approx(100 / changed.total.n)
    assert changed.per_subject[pairs[1].subject] == pytest.approx(100 / 24)
    training = phantoms.subjects("train")[2].name
    assert f"slice 10 of {pairs[1].subject} and slice 15 of training subject {training}" in changed.notes[0]
    assert changed.variants["authentic"].total.value < before.variants["authentic"].total.value
    assert (", 0 apart, and" in changed.notes[0]) is (not noise)


def test_real_slices_are_the_floor_one_in_a_hundred(phantoms, pairs):
    metric = make_metric(Copies, phantoms)
    records = {pair.subject: measured(metric, pair) for pair in pairs}
    result, floor = metric.result(records), metric.floor(records)
    assert floor.total == result.total
    assert result.total.value == pytest.approx(1, abs=1)
    assert floor.variants["authentic"].total == result.variants["authentic"].total


def test_slices_unlike_the_training_slices_are_authentic_and_blurred_copies_are_found(phantoms, pairs):
    real = found(phantoms, pairs).variants["authentic"].total.value
    assert found(phantoms, [class_means(pair) for pair in pairs]).variants["authentic"].total.value > real
    copies = planted(phantoms, [class_means(pair) for pair in pairs])
    assert total(make_metric(Copies, phantoms), [blurred(pair) for pair in copies]) > 0


def test_slices_without_a_body_are_left_out(phantoms, pairs):
    mask = pairs[0].mask.copy()
    mask[:4] = 0
    empty = replace(pairs[0], subject="other", mask=mask)
    result = found(phantoms, [empty])
    assert result.total.n == 20


def test_the_training_split_itself_and_no_training_slices_are_refused(phantoms, tmp_path, small_case):
    small = make_store(tmp_path / "out", [small_case(0)])
    for store, split, reason in (
        (phantoms, "train", "score the test split"),
        (small, "test", "the store has none"),
    ):
        context = Context(store=store, split=split, files={}, segmenting=Segmenting(), masks=tmp_path)
        assert reason in Copies.make(context)
