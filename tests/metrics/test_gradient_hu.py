import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scored import Scored

from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22
from ctsynth.metrics.base import Pair
from ctsynth.metrics.gradient import GradientRatio
from ctsynth.metrics.hu import OrganHU

RNG = np.random.default_rng(0)
REAL = gaussian_filter(RNG.random((4, 24, 24)), (0, 1, 1))
MASK = np.zeros(REAL.shape, np.uint8)
MASK[:, 4:20, 4:20] = AMOS22.body_id
MASK[:, 6:12, 6:12] = 6  # liver
MASK[:2, 14:18, 14:18] = 1  # spleen


def result(metric, synthetic, mask=MASK, subjects=1):
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    pairs = [Pair(f"subject_{n}", REAL, synthetic, mask, AMOS22, Window(), geometry) for n in range(subjects)]
    return Scored(metric(), *pairs).result()


def test_the_gradient_ratio_is_that_of_the_contrasts():
    assert result(GradientRatio, REAL).total.value == pytest.approx(1)
    assert result(GradientRatio, 0.5 * REAL + 0.2).total.value == pytest.approx(0.5)


def test_blur_lowers_the_gradient_ratio_and_speckle_raises_it():
    assert result(GradientRatio, gaussian_filter(REAL, (0, 1, 1))).total.value < 0.9
    assert result(GradientRatio, REAL + RNG.normal(0, 0.05, REAL.shape)).total.value > 1.1


def test_a_flat_real_slice_has_no_gradient_ratio():
    real = REAL.copy()
    real[0] = 0
    pair = Pair("one", real, REAL, MASK, AMOS22, Window(), Geometry(REAL.shape[::-1], np.eye(4)))
    found = Scored(GradientRatio(), pair).result()
    assert found.per_slice["one"][0] is None
    assert found.total.n == 3


def test_an_organ_that_is_10_hu_too_dense_is_found():
    denser = REAL + 10 / 400 * (MASK == 6)
    found = result(OrganHU, denser)
    assert found.per_organ["liver"].value == pytest.approx(10)
    assert found.per_organ["spleen"].value == pytest.approx(0)
    assert found.per_organ["body"].value == pytest.approx(0)
    assert found.total.value == pytest.approx(5)  # two organs; body is not one
    assert found.total.n == 2


def test_the_parts_are_mean_hu():
    found = result(OrganHU, REAL).per_organ["liver"]
    assert found.parts["real"] == pytest.approx(-160 + 400 * REAL[MASK == 6].mean())
    assert found.unit == "HU"


def test_an_absent_organ_is_not_listed_and_n_counts_the_subjects_that_have_it():
    geometry = Geometry(REAL.shape[::-1], np.eye(4))
    without = np.where(MASK == 1, AMOS22.body_id, MASK).astype(np.uint8)
    a = Pair("a", REAL, REAL, without, AMOS22, Window(), geometry)
    b = Pair("b", REAL, REAL + 0.05, MASK, AMOS22, Window(), geometry)
    found = Scored(OrganHU(), a, b).result()
    assert list(found.per_organ) == ["spleen", "liver", "body"]  # by id, whichever subject came first
    assert (found.per_organ["spleen"].n, found.per_organ["liver"].n) == (1, 2)
    assert found.per_organ["spleen"].low is None
    assert found.per_organ["liver"].value == pytest.approx(10)
    assert found.per_organ["spleen"].value == pytest.approx(20)


def test_a_mask_without_organs_gives_no_number():
    found = result(OrganHU, REAL, np.full_like(MASK, AMOS22.body_id), subjects=2)
    assert found.total.value is None
    assert found.per_subject == {"subject_0": None, "subject_1": None}
