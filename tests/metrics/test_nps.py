from dataclasses import replace

import numpy as np
import pytest
from measured_metrics import MeasuredMetric
from scipy.ndimage import gaussian_filter
from small_stores import make_store

from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22
from ctsynth.metrics.base import Context, Pair
from ctsynth.metrics.nps import NoisePowerSpectrum
from ctsynth.segmentation.settings import Segmenting

SHAPE = (6, 128, 128)
MASK = np.full(SHAPE, AMOS22.body_id, np.uint8)
MASK[:, 10:80, 10:110] = 6  # liver; the spleen is too small
MASK[:, 90:110, 90:110] = 1
GEOMETRY = Geometry((128, 128, 6), np.diag([1.5, 1.5, 5.0, 1.0]))


def noise(seed, hu=15.0, sigma=0.0):
    """Noise of a standard deviation, in the window's units, about a tilted level."""
    white = np.random.default_rng(seed).standard_normal(SHAPE)
    smooth = gaussian_filter(white, (0, sigma, sigma)) if sigma else white
    return 0.5 + 0.1 * np.linspace(-1, 1, 128) + hu / 400 * smooth / smooth.std()


def found(*synthetic):
    pairs = [Pair(f"{n}", noise(n), one, MASK, AMOS22, Window(), GEOMETRY) for n, one in enumerate(synthetic)]
    return MeasuredMetric(NoisePowerSpectrum(), *pairs).result()


@pytest.mark.parametrize("share", [0.5, 1.0, 2.0])
def test_the_noise_ratio_is_that_of_the_deviations(share):
    result = found(*(noise(10 + n, 15 * share) for n in range(3)))
    assert result.total.value == pytest.approx(share, rel=0.02)
    assert list(result.per_organ) == ["liver"]
    assert result.variants["frequency"].total.value == pytest.approx(0, abs=0.02)
    assert result.variants["frequency"].notes == ()


def test_coarser_grain_of_equal_strength_is_seen_and_flagged():
    frequency = found(*(noise(10 + n, sigma=1.0) for n in range(3))).variants["frequency"]
    assert frequency.total.value < -0.2
    assert frequency.total.unit == "lp/cm"
    assert "coarser" in frequency.notes[0]
    organ = frequency.per_organ["liver"]
    assert organ.parts["synthetic"] - organ.parts["real"] == pytest.approx(organ.value)


def test_blur_reduces_noise():
    assert found(*(gaussian_filter(noise(n), (0, 1, 1)) for n in range(2))).total.value < 0.5


def test_the_curve_is_the_spectrum_in_hu():
    curve = found(noise(0)).curve
    assert len(curve.x) == 16
    assert curve.x[-1] == pytest.approx(10 / 3)
    assert np.mean(curve.lines["real"][3:]) == pytest.approx(15**2 * 1.5**2, rel=0.1)


def test_subjects_without_a_region_are_left_out_and_counted():
    small = np.where(MASK == 6, 1, MASK)[:, ::3, ::3]
    geometry = Geometry((43, 43, 6), np.diag([1.5, 1.5, 5.0, 1.0]))
    values = noise(0)[:, ::3, ::3]
    pairs = [
        Pair("whole", noise(0), noise(0), MASK, AMOS22, Window(), GEOMETRY),
        Pair("small", values, values, small, AMOS22, Window(), geometry),
    ]
    result = MeasuredMetric(NoisePowerSpectrum(), *pairs).result()
    assert result.per_subject == {"whole": pytest.approx(1), "small": None}
    assert "1 of 2 subjects have no 32 x 32 pixels" in result.notes[0]
    nothing = MeasuredMetric(NoisePowerSpectrum(), pairs[1]).result()
    assert (nothing.total.value, nothing.curve) == (None, None)


def test_flat_synthetic_organs_have_no_noise():
    assert found(np.full(SHAPE, 0.5)).total.value == pytest.approx(0, abs=1e-6)


def test_other_real_volumes_are_the_floor():
    metric = NoisePowerSpectrum()
    pair = Pair("a", noise(0), noise(0), MASK, AMOS22, Window(), GEOMETRY)
    described = (metric.describe(noise(seed), pair) for seed in (0, 1))
    one, other = ({name: np.asarray(values) for name, values in record.items()} for record in described)
    floor = metric.against({"a": one}, [other])
    assert floor.total.value == pytest.approx(1, abs=0.05)
    assert abs(floor.variants["frequency"].total.value) < 0.1


def test_other_organs_and_coarse_slices_are_refused_with_the_reason(tmp_path, small_case):
    store = make_store(tmp_path / "out", [small_case(0)])
    context = Context(store=store, split="test", files={}, segmenting=Segmenting(), masks=tmp_path)
    assert "slices of at least 128 x 128 pixels, these have 32" in NoisePowerSpectrum.make(context)
    others = replace(AMOS22, name="mine", classes=AMOS22.classes[1:3])
    context = replace(context, store=replace(store, labels=others))
    assert "the label set mine has neither" in NoisePowerSpectrum.make(context)
