import numpy as np
import pytest
from scipy import ndimage

from ctsynth.data.body import body_mask, outline_from_organs
from ctsynth.data.volume import Volume


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def real(folder, name, end):
    volume = Volume.load(folder / f"images{end}" / f"{name}.nii.gz")
    labels = Volume.load(folder / f"labels{end}" / f"{name}.nii.gz").voxels
    return volume.voxels, volume.geometry.spacing, labels


def test_a_real_table_and_blanket_stay_out_and_both_arms_in(real_ct):
    hu, spacing, labels = real(real_ct, "ts_example_0002", "Va")
    body = body_mask(hu, spacing, labels > 0)
    parts, _ = ndimage.label(hu > -500)  # nothing touches here: trunk and left arm, right arm, two arcs of table
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    trunk, right_arm, upper_arc, lower_arc = np.argsort(sizes)[::-1][:4]
    for arc in (upper_arc, lower_arc):
        assert np.argwhere(parts == arc)[:, 1].max() < np.argwhere(parts == right_arm)[:, 1].min()
        assert (body & (parts == arc)).sum() == 0
    for part in (trunk, right_arm):
        assert (body & (parts == part)).sum() >= 0.9999 * sizes[part]
    x = np.argwhere(body.any(axis=(1, 2))).ravel()
    assert (x.min(), x.max()) == (6, 507)  # from one arm to the other
    assert (body & (parts == 0)).sum() < 0.03 * body.sum()  # gas, and no air beneath the blanket


def test_real_lungs_and_bowel_gas_are_inside(real_ct):
    hu, spacing, labels = real(real_ct, "ts_example_0001", "Tr")
    body = body_mask(hu, spacing, labels > 0)
    gas, _ = ndimage.label(hu < -500)
    outside = np.unique(np.concatenate([gas[0].ravel(), gas[-1].ravel(), gas[:, -1].ravel()]))
    enclosed = (gas > 0) & ~np.isin(gas, outside)
    assert enclosed.sum() > 10_000
    assert (body & enclosed).sum() / enclosed.sum() > 0.99
    assert body.sum() == pytest.approx(0.658 * body.size, rel=0.01)


def patient(pixel, slices=8, spacing_z=5.0, wall=16.0, table_gap=4.0, lung_hu=-850):
    """A chest of 320 x 220 mm: lungs behind a thin wall, open to the end slices, a table below, an arm."""
    matrix = round(400 / pixel)
    x, y, _ = np.meshgrid(*[(np.arange(matrix) - (matrix - 1) / 2) * pixel] * 2, np.arange(slices), indexing="ij")
    body = (np.abs(x) / 160) ** 2.35 + (np.abs(y - 20) / 110) ** 2.35 <= 1
    cavity = (np.abs(x) / (160 - wall)) ** 2.35 + (np.abs(y - 20) / (110 - wall)) ** 2.35 <= 1
    lung = cavity & (np.abs(x) > 35)
    arm = (x - 186) ** 2 + ((y + 30) / 1.5) ** 2 <= 11**2 if pixel < 1.5 else np.zeros_like(body)
    depth = np.hypot(x, y - 310 + table_gap) - 400  # of an arc of radius 400 mm, its top below the back
    table = (depth > 0) & (depth < max(2 * pixel, 5)) & (np.abs(x) < 170)
    hu = np.select([lung, body, arm, table], [lung_hu, 40, 40, 100], -1000)
    hu = ndimage.gaussian_filter(hu.astype(np.float32), (0.6, 0.6, 0))  # of a scanner, pixels
    hu += np.random.default_rng(0).normal(0, 15, hu.shape)
    return hu.astype(np.int16), (pixel, pixel, spacing_z), body | arm, table


@pytest.mark.parametrize("pixel", [0.7, 1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("wall", [12.0, 16.0])
def test_lungs_behind_a_thin_wall_are_in_and_a_table_just_below_the_back_is_out(pixel, wall):
    hu, spacing, truth, table = patient(pixel, wall=wall)
    body = body_mask(hu, spacing, np.zeros(hu.shape, bool))
    assert dice(body, truth) >= 0.985
    assert (body & table).sum() <= 0.02 * table.sum()


def test_a_thick_limb_apart_from_the_trunk_is_in_and_a_thin_plate_is_out():
    hu, spacing, truth, _ = patient(2.0)
    hu[:] = np.where(truth, hu, -1000)
    limb, plate = np.zeros(hu.shape, bool), np.zeros(hu.shape, bool)
    limb[182:200, 80:110] = True  # 36 mm thick
    plate[10:190, 2:9] = True  # 14 mm thick, and larger
    hu[limb | plate] = 50
    body = body_mask(hu, spacing, np.zeros(hu.shape, bool))
    assert (body & limb).sum() > 0.98 * limb.sum()
    assert (body & plate).sum() == 0


@pytest.mark.parametrize(("gas", "is_inside"), [(-850, True), (-1000, False)])
def test_a_gap_in_the_chest_wall_is_sealed_if_there_is_lung_behind_and_not_the_rooms_air(gas, is_inside):
    hu, spacing, truth, _ = patient(2.0, lung_hu=gas)
    gap = np.zeros(hu.shape, bool)
    gap[:45, 108:112, 3] = True  # 8 mm wide, from outside into the right lung of one slice
    hu[:] = np.where(truth & ~(gap & (hu > -500)), hu, -1000)
    body = body_mask(hu, spacing, np.zeros(hu.shape, bool))
    lung = truth & (hu < -500) & ~gap
    assert (body[:100, :, 3] & lung[:100, :, 3]).sum() == pytest.approx(
        is_inside * lung[:100, :, 3].sum(), rel=0.02
    )
    assert dice(body[:, :, 4], truth[:, :, 4]) > 0.99


@pytest.mark.parametrize("pixel", [1.0, 2.0])
def test_air_and_a_limb_far_from_the_trunk_do_not_change_it(pixel):
    hu, spacing, _, _ = patient(pixel, table_gap=8.0)
    body = body_mask(hu, spacing, np.zeros(hu.shape, bool))
    wide = np.pad(hu, [(100, 20), (100, 60), (0, 0)], constant_values=-1000)
    with_limb = wide.copy()
    with_limb[10:60, 10:60] = 50
    for frame in (wide, with_limb):
        found = body_mask(frame, spacing, np.zeros(frame.shape, bool))
        np.testing.assert_array_equal(found[100:-20, 100:-60], body)


def test_organs_are_inside_wherever_they_are():
    hu, spacing, _, _ = patient(4.0)
    organs = np.zeros(hu.shape, bool)
    organs[2, 2, 3] = True
    assert body_mask(hu, spacing, organs)[2, 2, 3]
    assert body_mask(np.full((9, 9, 2), -1000, np.int16), (2, 2, 2), np.zeros((9, 9, 2), bool)).sum() == 0


@pytest.mark.parametrize(
    ("name", "end", "least"),
    [("ts_example_0001", "Tr", 0.92), ("ts_example_0002", "Va", 0.88)],  # the second has both arms in view
)
def test_the_outline_guessed_from_organs_is_near_the_body(name, end, least, real_ct):
    hu, spacing, labels = real(real_ct, name, end)
    outline = outline_from_organs(labels, spacing)
    assert dice(outline, body_mask(hu, spacing, labels > 0)) >= least
    assert outline[labels > 0].all()


@pytest.mark.parametrize("where", [np.s_[:0], np.s_[10:11, 10:11, 1:2], np.s_[10:11, 5:20], np.s_[5:20, 7:8]])
def test_an_outline_can_be_guessed_from_any_organs(where):
    labels = np.zeros((40, 40, 3), np.uint8)
    labels[where] = 5
    outline = outline_from_organs(labels, (3.0, 3.0, 3.0))
    assert outline.any(axis=(0, 1)).tolist() == [labels.any()] * 3


def test_between_organs_far_apart_the_nearest_one_is_in_the_outline():
    labels = np.zeros((40, 40, 30), np.uint8)
    labels[5:15, 5:15, 0], labels[25:35, 25:35, 29] = 5, 6
    outline = outline_from_organs(labels, (3.0, 3.0, 5.0))
    for z, inside, outside in ((12, (10, 10), (30, 30)), (17, (30, 30), (10, 10))):
        assert outline[(*inside, z)]
        assert not outline[(*outside, z)]
