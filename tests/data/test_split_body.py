import numpy as np
import pytest
from scipy import ndimage

from ctsynth.data.split_body import DENSE, FAT, GAS, SOFT, classify
from ctsynth.errors import UsageError
from ctsynth.tissues import TissueThresholds

DEFAULT = TissueThresholds()

HU = {GAS: -850, FAT: -100, SOFT: 55, DENSE: 400}


def quarters(pixel, side_mm=80):
    """A square patient of four quarters, one tissue each, 10 mm from the frame."""
    side, margin = round(side_mm / pixel), round(10 / pixel)
    truth = np.full((side, side), GAS)
    truth[: side // 2, side // 2 :], truth[side // 2 :, : side // 2], truth[side // 2 :, side // 2 :] = (
        FAT,
        SOFT,
        DENSE,
    )
    inside = np.zeros((side, side), bool)
    inside[margin:-margin, margin:-margin] = True
    hu = np.where(inside, np.vectorize(HU.get)(truth), -1000).astype(np.float32)
    return hu, inside, truth


@pytest.mark.parametrize("pixel", [0.7, 1.5, 4.0])
def test_each_tissue_is_found_where_it_is(pixel):
    hu, inside, truth = quarters(pixel)
    found = classify(hu, inside, (pixel, pixel), DEFAULT)
    # Left out: partial volume between neighbors, and gas that meets the outside.
    border = ndimage.distance_transform_edt(inside, (pixel, pixel)) <= 2 * max(pixel, 2.0)
    middle = len(hu) // 2
    reach = int(np.ceil(3 / pixel))
    border[middle - reach : middle + reach] = border[:, middle - reach : middle + reach] = True
    np.testing.assert_array_equal(found[inside & ~border], truth[inside & ~border])


@pytest.mark.parametrize(
    ("hu", "tissue"), [(-301, GAS), (-299, FAT), (-31, FAT), (-29, SOFT), (149, SOFT), (151, DENSE)]
)
def test_default_hu_thresholds_give_the_tissues(hu, tissue):
    inside = np.ones((40, 40), bool)
    assert (classify(np.full((40, 40), hu), inside, (1.0, 1.0), DEFAULT) == tissue).all()


def test_given_hu_thresholds_are_used():
    inside = np.ones((40, 40), bool)
    found = classify(np.full((40, 40), 160), inside, (1.0, 1.0), TissueThresholds(dense_above=200))
    assert (found == SOFT).all()


def test_labels_carry_anatomy_and_not_the_noise_of_the_image():
    hu, inside, _ = quarters(0.7)
    clean = classify(hu, inside, (0.7, 0.7), DEFAULT)
    noisy = classify(hu + np.random.default_rng(0).normal(0, 30, hu.shape), inside, (0.7, 0.7), DEFAULT)
    raw = np.digitize(hu + np.random.default_rng(0).normal(0, 30, hu.shape), [-300, -30, 150])
    assert (noisy != clean)[inside].mean() < 0.01
    assert (raw != clean)[inside].mean() > 0.02  # thresholds alone would carry it


@pytest.mark.parametrize(("area_mm2", "stays"), [(9, False), (64, True)])
def test_a_region_too_small_to_be_anatomy_goes_to_its_neighbors(area_mm2, stays):
    hu, inside = np.full((80, 80), 55.0), np.ones((80, 80), bool)
    side = round(area_mm2**0.5)
    hu[40 : 40 + side, 40 : 40 + side] = 400
    found = classify(hu, inside, (1.0, 1.0), DEFAULT)
    assert (found == DENSE).any() == stays
    assert (found[~(found == DENSE)] == SOFT).all()


def test_skin_half_in_air_is_not_gas():
    hu, inside = np.full((80, 80), -1000.0), np.zeros((80, 80), bool)
    inside[10:70, 10:70] = True
    hu[11:69, 11:69], hu[12:68, 12:68] = -100, 55
    hu[inside & (hu == -1000)] = -450  # half air, half fat
    found = classify(hu, inside, (2.0, 2.0), DEFAULT)
    assert (found[inside] != GAS).all()


def test_a_patient_cut_by_the_frame_keeps_the_gas_there():
    hu = np.full((60, 60), 55.0)
    hu[:20] = -850
    assert (classify(hu, np.ones((60, 60), bool), (1.0, 1.0), DEFAULT)[:18] == GAS).all()


def test_a_slice_without_a_patient_has_some_tissue_or_other():
    assert classify(np.full((9, 9), -1000.0), np.zeros((9, 9), bool), (1.0, 1.0), DEFAULT).shape == (9, 9)


def test_thresholds_must_rise():
    with pytest.raises(UsageError, match="must rise"):
        TissueThresholds(fat_below=-400)
