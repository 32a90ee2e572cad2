import numpy as np
import pytest

from ctsynth.data.window import Window
from ctsynth.errors import UsageError


@pytest.mark.parametrize(
    ("hu", "unit"),
    [
        (-1000, 0.0),  # air, clipped
        (-160, 0.0),  # level - width / 2
        (0, 0.4),  # water
        (40, 0.5),  # level
        (240, 1.0),  # level + width / 2
        (1500, 1.0),  # bone, clipped
    ],
)
def test_the_papers_window(hu, unit):  # Sec. 3: "a level of 40 and a width of 400"
    assert Window().normalize(np.array([hu])) == pytest.approx(unit)


def test_denormalize_undoes_normalize_inside_the_window_within_a_thousandth_of_a_hu():
    window = Window(level=-600, width=800)
    hu = np.arange(window.low, window.high + 1)
    np.testing.assert_allclose(window.denormalize(window.normalize(hu)), hu, atol=1e-3)


def test_air_is_the_lower_end_unless_the_window_reaches_below_air():
    assert Window().air == -160
    assert Window(level=-600, width=1500).air == -1024


def test_clip_keeps_the_dtype():
    clipped = Window().clip(np.array([-1024, 0, 3000], np.int16))
    assert clipped.dtype == np.int16
    assert clipped.tolist() == [-160, 0, 240]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int32", "uint64", "float16", "float64"])
@pytest.mark.parametrize("window", [Window(), Window(-600, 200), Window(600, 200), Window(0.25, 401.5)])
def test_any_dtype_is_clipped_to_the_window_that_int16_is(dtype, window):
    hu = np.array([0, 1, 100, 127], dtype)
    expected = np.clip(hu.astype(np.int16), np.int16(window.low), np.int16(window.high))
    np.testing.assert_allclose(window.clip(hu), expected, atol=0.75)  # ends of half a HU, kept by floats


@pytest.mark.parametrize("level_width", [(40, 0.5), (-32568, 400), (32567, 400)])
def test_a_window_may_be_narrow_and_reach_to_the_ends_of_16_bits(level_width):
    window = Window(*level_width)
    assert window.normalize([window.low, window.level, window.high]).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("level_width", [(40, 0), (40, -1), (40, float("nan")), (40_000, 400)])
def test_a_window_that_is_no_range_of_hu_is_refused(level_width):
    with pytest.raises(UsageError, match="width"):
        Window(*level_width)
