import re

import numpy as np
import pytest
from measured_metrics import PLUGIN
from small_stores import make_store

from ctsynth.errors import UsageError
from ctsynth.metrics import base
from ctsynth.metrics.base import Context, interval, ratio, resample
from ctsynth.segmentation.settings import Segmenting


def test_the_interval_of_normal_data_is_the_textbooks():
    values = np.random.default_rng(1).normal(30, 2, 400)
    found = ratio(values, np.ones(400), n=400, unit="dB")
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_subjects_not_slices_are_drawn():
    """Ten slices of each subject agree: more slices must not narrow the interval."""
    values = np.random.default_rng(2).normal(0, 1, 50)
    one, ten = (ratio(values * k, np.full(50, float(k)), n=50 * k, unit="") for k in (1, 10))
    assert (ten.low, ten.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_one_subject_has_no_interval():
    found = ratio(np.array([60.0]), np.array([3.0]), n=3, unit="dB")
    assert (found.value, found.low, found.high) == (20, None, None)


def test_equal_subjects_have_an_interval_of_no_width():
    found = ratio(np.array([10.0, 20.0]), np.array([1.0, 2.0]), n=3, unit="")
    assert (found.low, found.high) == (pytest.approx(10), pytest.approx(10))


def test_a_ratio_allows_small_and_zero_denominators():
    """Steps of nearly flat slices; a subject without any, which some resamples consist of."""
    small = ratio(np.array([0.2, 0.2]), np.array([0.1, 0.1]), n=2, unit="")
    assert (small.value, small.low, small.high) == pytest.approx((2, 2, 2))
    lone = ratio(np.array([0.0, 0.6]), np.array([0.0, 0.3]), n=1, unit="")
    assert (lone.value, lone.low, lone.high) == pytest.approx((2, 2, 2))
    assert ratio(np.zeros(2), np.zeros(2), n=0, unit="").value is None


def test_the_interval_holds_95_percent():
    assert interval(np.arange(1001.0), 2) == (25, 975)


def test_every_call_draws_the_same_subjects():
    sums = np.random.default_rng(3).random((7, 2))
    draws = resample(sums)
    assert draws.shape == (base.RESAMPLES, 2)
    np.testing.assert_allclose(resample(sums[:, 1]), draws[:, 1], rtol=1e-12)


def test_resamples_with_nothing_to_average_are_left_out():
    draws = np.array([np.nan, 1.0, 1.0])
    assert interval(draws, 2) == (1, 1)
    assert interval(np.full(3, np.nan), 2) == (None, None)


ALWAYS = (
    "psnr",
    "ssim",
    "gradient",
    "hu",
    "z-gradient",
    "z-correlation",
    "z-flicker",
    "nps",
    "copies",
    "diversity",
)


@pytest.mark.parametrize("name", [*ALWAYS, "fid", "fid-planes", "frechet", "coverage", "dice"])
def test_a_file_is_a_metric(name):
    assert name in base.metric_names()
    metric = base.find_metric(name)
    assert metric.title
    reason = metric.available()
    assert (reason is None) == (name in ALWAYS)  # the others' weights are nowhere in these tests


@pytest.mark.parametrize(
    ("name", "remedy"), [("fid", "ctsynth weights import"), ("dice", "pip install|totalseg_download_weights")]
)
def test_an_unavailable_metric_is_named_with_its_remedy(name, remedy):
    assert re.search(remedy, base.find_metric(name).available())


@pytest.mark.parametrize("name", ["psnr", "fid", "dice"])
def test_make_returns_a_metric_or_the_reason_why_it_is_unavailable(name, tmp_path, small_case):
    store = make_store(tmp_path / "out", [small_case(0)])
    metric = base.find_metric(name)
    context = Context(store=store, split="test", files={}, segmenting=Segmenting(), masks=tmp_path)
    made = metric.make(context)
    assert made == metric.available() or isinstance(made, metric)
    assert isinstance(made, metric) == (metric.available() is None)


def test_a_user_metric_from_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "own_mae.py").write_text(PLUGIN)
    (folder / "own_empty.py").write_text("")
    monkeypatch.setenv("CTSYNTH_PLUGINS", str(tmp_path))
    assert base.find_metric("own-mae").title == "MAE in body"
    with pytest.raises(UsageError, match="defines no metric"):
        base.find_metric("own-empty")


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no metric is called 'nmi'") as error:
        base.find_metric("nmi")
    assert "psnr" in error.value.hint
