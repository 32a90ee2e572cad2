import weakref

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  its own way
from label_names import write_names
from measured_metrics import MeasuredMetric
from scipy.ndimage import gaussian_filter

from ctsynth.data.originals import Original
from ctsynth.data.relabel import Given
from ctsynth.data.slices import from_slices, stack, stacked_geometry, to_slices
from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.errors import DataError
from ctsynth.labels import AMOS22, LabelSet
from ctsynth.metrics.base import Pair
from ctsynth.metrics.dice import Dice, mean_over_organs
from ctsynth.segmentation.base import Segmentation
from ctsynth.segmentation.overlap import surface_distances

ALL = frozenset(organ.id for organ in AMOS22.classes)
SPLEEN, LIVER, PROSTATE, BODY = 1, 6, 15, AMOS22.body_id
SHAPE = (24, 20, 8)
GEOMETRY = Geometry(SHAPE, np.diag([2.0, 2.0, 5.0, 1.0]))


class Planted:
    """Finds given masks, and remembers what it was shown."""

    name, version = "planted", "1"

    def __init__(self, masks=(), classes=ALL):
        self.masks, self.classes, self.seen = dict(masks), classes, []
        self.settings = {"of": "a test"}

    def segment(self, volume, labels, subject):
        self.seen.append(volume)
        return Segmentation(self.masks[subject], self.classes)


def box(*bounds, label=LIVER, into=None):
    mask = np.full(SHAPE, BODY, np.uint8) if into is None else into.copy()
    mask[tuple(slice(*bound) for bound in bounds)] = label
    return mask


def pair(reference, subject="a", labels=AMOS22):
    """A pair whose stacked label map is ``reference``, (X, Y, Z)."""
    mask = np.ascontiguousarray(reference[::-1, ::-1].transpose(2, 1, 0))
    unit = np.zeros(mask.shape, np.float32)
    return Pair(subject, unit, unit, mask, labels, Window(), GEOMETRY)


def scored(references, masks, **options):
    pairs = [pair(reference, subject) for subject, reference in references.items()]
    return MeasuredMetric(Dice(Planted(masks, **options)), *pairs).result()


def blobs(seed, threshold=0.1):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return noise > threshold * noise.max()


def test_two_boxes_that_half_overlap():
    """10 x 10 x 4 voxels each, 5 x 10 x 4 in common: 2 * 200 / 800."""
    reference, found = box((0, 10), (0, 10), (2, 6)), box((5, 15), (0, 10), (2, 6))
    result = scored({"a": reference}, {"a": found})
    assert result.per_organ["liver"].value == pytest.approx(50)
    assert result.total.value == pytest.approx(50)
    assert (result.total.n, result.counted, result.total.unit) == (1, "organs", "%")


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_that_of_simpleitk(seed):
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 17, SHAPE, np.uint8)
    other = np.where(rng.random(SHAPE) < 0.6, one, rng.integers(0, 17, SHAPE, np.uint8)).astype(np.uint8)
    result = scored({"a": one}, {"a": other})
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(one), sitk.GetImageFromArray(other))
    assert len(result.per_organ) == 15
    for organ in AMOS22.classes:
        theirs = measure.GetDiceCoefficient(organ.id)
        assert result.per_organ[organ.name].value / 100 == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_hausdorff_distance_is_that_of_the_whole_masks_on_the_volumes_grid(seed):
    masks = blobs(seed), blobs(seed + 10)
    result = scored(
        {"a": np.where(masks[0], LIVER, BODY)}, {"a": np.where(masks[1], LIVER, BODY).astype(np.uint8)}
    )
    cropped = result.variants["hd95"].per_organ["liver"]
    assert cropped.value == pytest.approx(surface_distances(*masks, GEOMETRY.spacing).hd95())
    assert cropped.unit == "mm"
    surface = result.variants["nsd"].per_organ["liver"]
    assert surface.value == pytest.approx(100 * surface_distances(*masks, GEOMETRY.spacing).nsd())


def test_an_organ_in_neither_is_left_out_and_counted():
    reference = box((0, 10), (0, 10), (0, 4))
    result = scored({"a": reference}, {"a": reference})
    assert list(result.per_organ) == ["liver"]  # not 1 for the other fourteen
    assert result.total.value == 100
    assert any("neither" in note and "spleen 1" in note for note in result.notes)


def test_an_organ_found_but_not_in_the_label_map_is_reported_separately():
    reference = box((0, 10), (0, 10), (0, 4))
    found = box((15, 20), (0, 5), (0, 4), label=SPLEEN, into=reference)
    result = scored({"a": reference, "b": found}, {"a": found, "b": found})
    assert result.per_organ["spleen"].n == 1
    assert result.total.value == 100
    assert any("has none" in note and "spleen 1" in note for note in result.notes)


def test_an_organ_that_is_not_found_has_dice_and_nsd_0_and_no_hausdorff_distance():
    reference = box((0, 10), (0, 10), (0, 4))
    result = scored({"a": reference, "b": reference}, {"a": reference, "b": np.full(SHAPE, BODY, np.uint8)})
    assert result.per_organ["liver"].value == pytest.approx(50)
    assert result.per_subject == result.variants["nsd"].per_subject == {"a": 100, "b": 0}
    distance = result.variants["hd95"]
    assert (distance.total.value, distance.per_organ["liver"].n) == (0, 1)
    assert distance.per_subject["b"] is None
    assert any("not found" in note and "liver 1" in note for note in result.notes)


def test_a_segmenter_that_does_not_look_for_an_organ_has_not_missed_it():
    reference = box((0, 10), (0, 10), (0, 4), label=SPLEEN, into=box((12, 20), (0, 10), (0, 4)))
    result = scored({"a": reference}, {"a": reference}, classes=frozenset({LIVER}))
    assert list(result.per_organ) == ["liver"]
    assert any("spleen 1" in note and "segmenter's classes" in note for note in result.notes)


def test_the_prostate_has_a_value_but_is_not_in_the_mean_of_the_papers_14():
    reference = box((0, 10), (0, 10), (0, 4), label=PROSTATE, into=box((12, 20), (0, 10), (0, 4)))
    result = scored({"a": reference}, {"a": box((12, 20), (0, 10), (0, 4))})
    assert result.per_organ["prostate"].value == 0
    assert result.total.value == 100
    assert any(note.startswith("prostate: not part of the mean") for note in result.notes)


def test_a_label_set_without_the_papers_columns_is_averaged_over_all_of_it():
    own = LabelSet.from_json({"name": "own", "classes": [{"id": 1, "name": "spleen"}, {"id": 2, "name": "liver"}]})
    reference = box((0, 10), (0, 10), (0, 4), label=1, into=box((12, 20), (0, 10), (0, 4), label=2))
    metric = Dice(Planted({"a": np.where(reference == 1, 1, 0).astype(np.uint8)}, frozenset({1, 2})))
    assert MeasuredMetric(metric, pair(reference, labels=own)).result().total.value == pytest.approx(50)


def test_the_mean_is_over_subjects_first_and_then_over_organs():
    """Liver 100 and 0, spleen 100 in one subject: 75, where the mean of all three values is 67."""
    value = mean_over_organs(np.array([[100, np.nan], [0, 100.0]]), "%")
    assert (value.value, value.n) == (75, 2)
    assert value.low <= 75 <= value.high
    assert mean_over_organs(np.full((2, 2), np.nan), "%").value is None


def test_the_segmenter_sees_the_volume_in_hu_where_the_patient_lay(small_case):
    case = small_case()
    size = 48  # of 32 voxels
    ct = to_slices(Window().clip(case.hu), size, "ct")
    source = Geometry(case.hu.shape, case.affine)
    geometry = stacked_geometry(source, size)
    mask = to_slices(case.labels, size, "labels")
    planted = Planted({"a": stack(mask)})
    unit = Window().normalize(ct)
    Dice(planted, planted).measure(Pair("a", unit, unit * 0.5, mask, AMOS22, Window(), geometry))
    synthetic, real = planted.seen
    np.testing.assert_array_equal(real.voxels, stack(ct))  # to the last HU
    assert synthetic.voxels.min() == -160
    assert synthetic.voxels.max() <= 40
    corner = source.affine @ [-0.5, -0.5 - 4, -0.5, 1]  # padded by 4 of 24 rows on either side
    np.testing.assert_allclose(real.geometry.affine @ [-0.5, -0.5, -0.5, 1], corner, atol=1e-9)


def test_the_ceiling_is_the_segmenter_on_the_real_volumes():
    reference, found = box((0, 10), (0, 10), (2, 6)), box((5, 15), (0, 10), (2, 6))
    one = MeasuredMetric(Dice(Planted({"a": found}), Planted({"a": reference})), pair(reference))
    assert one.result().total.value == pytest.approx(50)
    assert one.ceiling().total.value == 100
    assert one.ceiling().variants["hd95"].total.value == 0
    assert one.ceiling().variants["nsd"].total.value == 100
    assert MeasuredMetric(Dice(Planted())).ceiling() is None


@pytest.fixture
def native(tmp_path, small_case, write_nifti):
    """A pair at half the source's pixels, and what it was cut from; the synthetic volume lies where it is told."""
    case = small_case()
    geometry = Geometry(case.hu.shape, case.affine)
    ct, mask = to_slices(Window().clip(case.hu), 16, "ct"), to_slices(case.labels, 16, "labels")
    unit = Window().normalize(ct)
    whole = Pair("a", unit, unit, mask, AMOS22, Window(), stacked_geometry(geometry, 16))
    labels = write_nifti(tmp_path / "labels.nii.gz", case.labels, case.affine, "LPS")
    full = write_nifti(tmp_path / "full.nii.gz", case.hu, case.affine, "PIL")
    small = write_nifti(tmp_path / "small.nii.gz", stack(ct), whole.geometry.affine)
    return case, whole, Original(geometry, labels, full), Original(geometry, labels, small)


def test_native_scores_the_source_grid_against_the_sources_own_labels(native):
    case, whole, full, small = native
    for original, expected in (
        (full, Window().clip(case.hu)),  # its own voxels
        (small, from_slices(to_slices(Window().clip(case.hu), 16, "ct"), full.geometry, "ct")),
    ):
        planted = Planted({"a": case.labels})
        result = MeasuredMetric(Dice(planted, native={"a": original}), whole).result()
        assert result.total.value == 100  # which labels of half the pixels would not give
        assert result.settings["grid"] == "of the source CT"
        np.testing.assert_array_equal(planted.seen[0].voxels, expected)
        np.testing.assert_allclose(planted.seen[0].geometry.affine, case.affine, atol=1e-3)  # mm


@pytest.mark.parametrize("by", ["header", "dataset.json"])
def test_native_reads_the_sources_labels_by_name_as_preprocess_did(by, native, tmp_path, write_nifti):
    case, whole, full, _ = native
    permuted = np.select([case.labels == 6, case.labels == 1], [1, 2], 0).astype(np.uint8)
    labels = write_nifti(tmp_path / "permuted.nii.gz", permuted, case.affine)
    if by == "header":
        write_names(labels, {1: "Liver", 2: "spleen"})
        original = full._replace(labels=labels)
    else:
        original = full._replace(labels=labels, names=Given({1: ("Liver",), 2: ("spleen",)}, "out"))
    result = MeasuredMetric(Dice(Planted({"a": case.labels}), native={"a": original}), whole).result()
    assert {organ: value.value for organ, value in result.per_organ.items() if value.n} == {
        "spleen": 100,
        "liver": 100,
    }


def test_native_refuses_labels_on_another_grid(native, tmp_path, write_nifti):
    case, whole, full, _ = native
    moved = write_nifti(tmp_path / "moved.nii.gz", case.labels, case.affine + np.eye(4)[:, [1, 2, 3, 0]] * 6)
    with pytest.raises(DataError, match=r"moved\.nii\.gz: not on the grid"):
        Dice(Planted(), native={"a": full._replace(labels=moved)}).measure(whole)


def test_no_volume_outlives_its_subject():
    reference = box((0, 10), (0, 10), (0, 4))
    planted = Planted({"a": reference.copy()})
    metric = Dice(planted)
    metric.measure(pair(reference))
    kept = [weakref.ref(planted.seen.pop().voxels), weakref.ref(planted.masks.pop("a"))]
    assert all(volume() is None for volume in kept)


def test_dice_records_its_segmenter_and_version():
    reference = box((0, 10), (0, 10), (0, 4))
    settings = scored({"a": reference}, {"a": reference}).settings
    assert settings["segmenter"] == "planted"
    assert settings["version"] == "1"
    assert settings["of"] == "a test"
    assert settings["grid"] == "of the stacked slices"
    assert "hd95" in settings
