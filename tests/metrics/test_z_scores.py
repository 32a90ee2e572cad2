from dataclasses import replace

import numpy as np
import pytest
from degraded_pairs import another, blurred, blurred_along_z, class_means, real_pairs, redrawn_noise, shuffled
from measured_metrics import make_metric, total
from small_stores import make_store

from ctsynth.metrics.base import Context
from ctsynth.metrics.hu import OrganHU
from ctsynth.metrics.z_correlation import ZCorrelation
from ctsynth.metrics.z_flicker import ZFlicker
from ctsynth.metrics.z_gradient import ZGradient
from ctsynth.scoring.measuring import measured
from ctsynth.scoring.result import Value
from ctsynth.segmentation.settings import Segmenting

METRICS = (ZGradient, ZCorrelation, ZFlicker)
RIGHT = {ZGradient: 1.0, ZCorrelation: 0.0, ZFlicker: 0.0, OrganHU: 0.0}
FLOORS = {ZGradient: 0.1, ZCorrelation: 0.1, ZFlicker: 1, OrganHU: 15}
"""How far off real volumes of other subjects are at most; measured 0.02, 0.02, 0.1, 8."""


@pytest.fixture(scope="module")
def store(phantoms):
    return phantoms


@pytest.fixture(scope="module")
def pairs(store):
    return real_pairs(store)


@pytest.mark.parametrize("metric", [*METRICS, OrganHU])
def test_real_volumes_are_right_and_those_of_other_subjects_nearly(store, pairs, metric):
    one = make_metric(metric, store)
    records = {pair.subject: measured(one, pair) for pair in pairs}
    assert one.result(records).total.value == pytest.approx(RIGHT[metric], abs=1e-6)
    floor = one.floor(records).total
    assert floor.n == one.result(records).total.n
    assert 1e-3 < abs(floor.value - RIGHT[metric]) < FLOORS[metric]


@pytest.mark.parametrize(
    ("control", "gradient", "correlation", "flicker"),  # 1 rises, -1 falls; an error only rises
    [
        (shuffled, 1, 1, 1),
        (blurred, -1, 0, -1),
        (blurred_along_z, -1, 1, -1),
        (class_means, -1, 1, -1),
        (redrawn_noise, 1, 1, 1),
    ],
)
def test_controls_move_each_score_the_right_way(store, pairs, control, gradient, correlation, flicker):
    changed = [control(pair) for pair in pairs]
    for metric, sign in zip(METRICS, (gradient, correlation, flicker), strict=True):
        one = make_metric(metric, store)
        floor = one.floor({pair.subject: measured(one, pair) for pair in pairs}).total.value
        if sign:
            assert sign * (total(one, changed) - RIGHT[metric]) > 1.2 * abs(floor - RIGHT[metric]), metric


def test_another_subjects_slices_are_off(store, pairs):
    swapped = [another(pair, other) for pair, other in zip(pairs, pairs[1:] + pairs[:1], strict=True)]
    for metric in (ZFlicker, OrganHU):
        one = make_metric(metric, store)
        floor = one.floor({pair.subject: measured(one, pair) for pair in pairs}).total.value
        assert total(one, swapped) > 1.2 * abs(floor)
    assert total(make_metric(ZCorrelation, store), swapped) > 0.01


def test_the_whole_curve_counts_not_only_neighbors(store, pairs):
    """Slices two by two, the pairs in another order: every other neighbor is right, what is farther is not."""
    order = np.arange(24).reshape(12, 2)[np.random.default_rng(0).permutation(12)].ravel()
    changed = [replace(pair, synthetic=pair.real[order]) for pair in pairs]
    assert total(make_metric(ZCorrelation, store), changed) > 0.1


def test_the_curve_is_the_mean_of_the_subjects_and_the_score_that_of_their_errors_up_to_60_mm(store, pairs):
    one = make_metric(ZCorrelation, store)
    records = {pair.subject: measured(one, shuffled(pair)) for pair in pairs}
    curve = one.result(records).curve
    assert curve.x == pytest.approx([15 * k for k in range(1, 9)])
    for kind in ("real", "synthetic"):
        assert curve.lines[kind] == pytest.approx(
            np.mean([record[f"{kind}_correlation"] for record in records.values()], axis=0)
        )
    errors = [np.abs(r["real_correlation"] - r["synthetic_correlation"])[:4].mean() for r in records.values()]
    assert one.result(records).total.value == pytest.approx(np.mean(errors))


def test_steps_within_a_label_and_across_labels_are_separate(store, pairs):
    one = make_metric(ZGradient, store)
    records = {pair.subject: measured(one, blurred_along_z(pair)) for pair in pairs}
    both, same, changed = one.result(records), *one.result(records).variants.values()
    sums = sum(np.array([record["real_sums"], record["synthetic_sums"]]) for record in records.values())
    assert same.total.value == pytest.approx(sums[1, 0] / sums[0, 0])
    assert changed.total.value == pytest.approx(sums[1, 1] / sums[0, 1])
    assert both.total.value == pytest.approx(sums[1].sum() / sums[0].sum())


def test_measurements_of_real_volumes_are_cached_in_the_store(store, pairs, monkeypatch):
    one = make_metric(ZCorrelation, store)
    records = {pair.subject: measured(one, pair) for pair in pairs}
    floor = one.floor(records).total
    monkeypatch.setattr(ZCorrelation, "describe", lambda *_: pytest.fail("described again"))
    monkeypatch.setattr("ctsynth.metrics._residual.Regression", lambda *_: pytest.fail("fitted again"))
    assert make_metric(ZCorrelation, store).floor(records).total == floor


def test_without_training_slices_there_is_no_residual_and_the_reason_is_reported(tmp_path, small_case):
    small = make_store(tmp_path / "out", [small_case(seed) for seed in range(2)])
    context = Context(store=small, split="test", files={}, segmenting=Segmenting(), masks=tmp_path)
    assert "training slices" in ZCorrelation.make(context)
    assert "training slices" in ZFlicker.make(context)
    one = make_metric(ZGradient, small)
    assert one.floor({pair.subject: measured(one, pair) for pair in real_pairs(small)}) is None


def test_too_few_slices_have_no_flicker_and_are_counted(store, pairs):
    short = [
        replace(
            pair,
            subject=f"short {pair.subject}",
            real=pair.real[:6],
            synthetic=pair.synthetic[:6],
            mask=pair.mask[:6],
        )
        for pair in pairs
    ]
    one = make_metric(ZFlicker, store)
    found = one.result({pair.subject: measured(one, pair) for pair in short})
    assert found.total == Value(value=None, n=0, unit="dB")
    assert found.notes == ("3 of 3 subjects have too few slices: left out of the mean",)
