"""NRRD, .seg.nrrd and MetaImage: written by others and read here, written here and read by others."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ctsynth.data.relabel import read_labels
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError
from ctsynth.labels import AMOS22

sitk = pytest.importorskip("SimpleITK", reason="the extra ctsynth[formats] is not installed")

VOXELS = np.random.default_rng(0).integers(-1024, 2000, (5, 7, 3)).astype(np.int16)  # (columns, rows, slices)
DIRECTIONS = Rotation.from_euler("xyz", (3, -5, 10), degrees=True).as_matrix()
SPACING, ORIGIN = (0.7123456, 1.25, 5.0), (-120.123456, 33.0, -700.5)


def written(path, voxels=VOXELS, entries=(), is_vector=False):
    image = sitk.GetImageFromArray(np.moveaxis(voxels, (0, 1, 2), (2, 1, 0)), isVector=is_vector)
    image.SetDirection(DIRECTIONS.ravel().tolist())
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    for key, value in dict(entries).items():
        image.SetMetaData(key, str(value))
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".NRRD", ".nii.gz"])
def test_each_format_gives_the_same_volume(suffix, tmp_path):
    found = Volume.load(written(tmp_path / f"ct{suffix}"))
    reference = Volume.load(written(tmp_path / "reference.nii"))
    np.testing.assert_array_equal(found.voxels, reference.voxels)
    np.testing.assert_allclose(found.geometry.affine, reference.geometry.affine, atol=1e-4)
    assert found.voxels.dtype == np.int16


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_sees_the_written_volume_where_its_source_lay(suffix, tmp_path):
    written(tmp_path / "mask.nrrd")
    Volume.load(tmp_path / "mask.nrrd").save(tmp_path / f"ct{suffix}", "not a patient")
    image = sitk.ReadImage(str(tmp_path / f"ct{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), VOXELS)
    np.testing.assert_allclose(image.GetSpacing(), SPACING, atol=1e-9)
    np.testing.assert_allclose(image.GetOrigin(), ORIGIN, atol=1e-9)
    np.testing.assert_allclose(image.GetDirection(), DIRECTIONS.ravel(), atol=1e-9)
    assert image.GetMetaData("description") == "not a patient"


@pytest.mark.parametrize(("suffix", "field"), [(".nrrd", b"dimension: 3"), (".mha", b"NDims = 3")])
@pytest.mark.parametrize("number", [b"9" * 60, b"17", b"three"])
def test_a_number_of_dimensions_that_cannot_be_never_reaches_itk(suffix, field, number, tmp_path, monkeypatch):
    path = written(tmp_path / f"ct{suffix}")
    path.write_bytes(path.read_bytes().replace(field, field.replace(b"3", number)))
    monkeypatch.setattr(sitk.ImageFileReader, "ReadImageInformation", lambda _: pytest.fail("ITK may crash"))
    with pytest.raises(DataError, match="its number of dimensions is damaged"):
        Volume.load(path)


@pytest.mark.parametrize("field", [b"type: short", b"space: left-posterior-superior", b"encoding: gzip"])
def test_a_field_too_long_for_itk_never_reaches_it(field, tmp_path, monkeypatch):
    path = written(tmp_path / "ct.nrrd")
    content = path.read_bytes()
    assert field in content
    path.write_bytes(content.replace(field, field + b"x" * 1200))
    monkeypatch.setattr(sitk.ImageFileReader, "ReadImageInformation", lambda _: pytest.fail("ITK may crash"))
    with pytest.raises(DataError, match="a line of its header is damaged"):
        Volume.load(path)


def test_a_long_entry_and_a_long_comment_are_no_damage(tmp_path):
    path = written(tmp_path / "ct.nrrd")
    content = path.read_bytes()
    long = b"\n# " + b"x" * 1200 + b"\nnote:=" + b"y" * 1200 + b"\n\n"
    path.write_bytes(content.replace(b"\n\n", long, 1))
    np.testing.assert_array_equal(Volume.load(path).on_source_grid()[0], VOXELS)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nifti_in_meters_is_written_in_millimeters(suffix, tmp_path):
    image = nib.Nifti1Image(VOXELS, np.diag([0.7e-3, 0.7e-3, 5e-3, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "in.nii")
    Volume.load(tmp_path / "in.nii").save(tmp_path / f"out{suffix}")
    np.testing.assert_allclose(
        sitk.ReadImage(str(tmp_path / f"out{suffix}")).GetSpacing(), (0.7, 0.7, 5), atol=1e-6
    )


def test_equal_volumes_give_equal_bytes(tmp_path):
    volume = Volume.load(written(tmp_path / "a.nrrd"))
    for suffix in ("nrrd", "mha"):
        for name in "bc":
            volume.save(tmp_path / f"{name}.{suffix}", "x")
        assert (tmp_path / f"b.{suffix}").read_bytes() == (tmp_path / f"c.{suffix}").read_bytes()


def test_axes_that_are_not_at_right_angles_are_refused_and_leave_nothing(tmp_path):
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 1
    with pytest.raises(DataError, match=r"/a\.nrrd: its axes are not at right angles"):
        Volume(VOXELS, Geometry(VOXELS.shape, affine)).save(tmp_path / "a.nrrd")
    assert not list(tmp_path.iterdir())


SEGMENTS = {
    "Segment0_Name": "liver", "Segment0_LabelValue": 2, "Segment0_Layer": 0,
    "Segment1_Name": "Left Kidney", "Segment1_LabelValue": 1, "Segment1_Layer": 0,
}  # fmt: skip
LAYERS = {key: ("1" if key == "Segment1_Layer" else value) for key, value in SEGMENTS.items()}


def segments():
    labels = np.zeros((5, 7, 3), np.uint8)
    labels[:2], labels[3:] = 2, 1
    return labels


@pytest.mark.parametrize("layers", ["", "vector", "list"])  # 3D Slicer calls their axis a list
def test_slicers_segments_are_labels_with_names(layers, tmp_path):
    labels = segments()
    if layers:
        voxels = np.stack([np.where(labels == 2, 2, 0), np.where(labels == 1, 1, 0)], axis=-1).astype(np.uint8)
        path = written(tmp_path / "a.seg.nrrd", voxels, LAYERS, is_vector=True)
        path.write_bytes(path.read_bytes().replace(b"kinds: vector", b"kinds: " + layers.encode()))
    else:
        path = written(tmp_path / "a.seg.nrrd", labels, SEGMENTS)
    volume = Volume.load(path)
    assert volume.names == {1: "liver", 2: "Left Kidney"}
    mine = read_labels(path, volume, AMOS22).voxels
    expected = Volume.load(written(tmp_path / "b.nrrd", np.array([0, 3, 6], np.uint8)[labels])).voxels
    np.testing.assert_array_equal(mine, expected)


def test_segments_that_share_voxels_are_named(tmp_path):
    voxels = np.ones((5, 7, 3, 2), np.uint8)
    entries = LAYERS | {"Segment0_LabelValue": 1}
    with pytest.raises(DataError, match=r"segments 'liver' and 'Left Kidney' share 105 voxels"):
        Volume.load(written(tmp_path / "a.seg.nrrd", voxels, entries, is_vector=True))


def test_unreadable_itk_files_are_named(tmp_path, monkeypatch):
    cases = {"vector.nrrd": "2 numbers each", "spaceless.nrrd": "names no space", "cut.mha": "cannot read it"}
    written(tmp_path / "vector.nrrd", np.ones((5, 7, 3, 2), np.uint8), is_vector=True)
    content = written(tmp_path / "spaceless.nrrd").read_bytes()
    lines = [line for line in content.split(b"\n", 12) if not line.startswith(b"space: ")]
    spaceless = [b"space dimension: 3" if line.startswith(b"dimension") else line for line in lines]
    spaceless.insert(3, b"dimension: 3")
    (tmp_path / "spaceless.nrrd").write_bytes(b"\n".join(spaceless))
    whole = written(tmp_path / "cut.mha").read_bytes()
    (tmp_path / "cut.mha").write_bytes(whole[:-40])
    for name, words in cases.items():
        with pytest.raises(DataError, match=words):
            Volume.load(tmp_path / name)
    for name in ("no.mha", "no.nrrd"):
        with pytest.raises(DataError, match="no such file"):
            Volume.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "line"), [("a.mha", b"ElementDataFile = /etc/passwd\n"), ("a.nrrd", b"data file: /etc/passwd\n\n")]
)
def test_no_header_makes_us_read_another_file(name, line, tmp_path):
    content = written(tmp_path / name).read_bytes()
    end = content.index(b"ElementDataFile" if name == "a.mha" else b"\n\n") + (name == "a.nrrd")
    (tmp_path / name).write_bytes(content[:end] + line)
    with pytest.raises(DataError, match="its voxels are in another file"):
        Volume.load(tmp_path / name)


def test_without_the_extra_the_message_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    (tmp_path / "a.mha").write_bytes(b"ObjectType = Image\n")
    with pytest.raises(DataError, match="needs SimpleITK, which is not installed") as caught:
        Volume.load(tmp_path / "a.mha")
    assert caught.value.hint == "pip install 'ctsynth[formats]'"


def test_a_trailing_axis_of_one_is_dropped_and_one_of_two_is_refused(tmp_path):
    image = sitk.ReadImage(str(written(tmp_path / "a.nrrd")))
    flat = Volume.load(tmp_path / "a.nrrd")
    for count in (1, 2):
        sitk.WriteImage(sitk.JoinSeries([image] * count), str(tmp_path / f"{count}.mha"))
    found = Volume.load(tmp_path / "1.mha")
    np.testing.assert_array_equal(found.voxels, flat.voxels)
    np.testing.assert_allclose(found.geometry.affine, flat.geometry.affine, atol=1e-6)
    with pytest.raises(DataError, match=r"its shape is \(5, 7, 3, 2\)"):
        Volume.load(tmp_path / "2.mha")
