import gzip
import itertools
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ctsynth.data.volume import Geometry, SourceGrid, Volume
from ctsynth.errors import DataError, RunError

AXES = [
    "".join(signs[axis] for axis in order)
    for order in itertools.permutations(range(3))
    for signs in itertools.product("LR", "PA", "IS")
]
SHAPE = (5, 7, 3)
VOXELS = np.random.default_rng(0).integers(-1024, 2000, SHAPE).astype(np.int16)
AFFINE = np.array([[0.75, 0, 0, -31.5], [0, 1.5, 0, 12.25], [0, 0, 5, -900.5], [0, 0, 0, 1]])


def oblique(angles, spacing=(0.7, 1.3, 5.0), origin=(-120.0, 33.0, -700.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    return affine


@pytest.mark.parametrize("axes", AXES)
def test_all_48_axis_orders_come_out_equal_and_go_back_as_they_came(axes, tmp_path, write_nifti):
    source = write_nifti(tmp_path / "in.nii.gz", VOXELS, AFFINE, axes)
    volume = Volume.load(source)
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.geometry.affine, AFFINE, atol=1e-4)
    volume.save(tmp_path / "out.nii.gz")
    before, after = nib.load(source), nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))
    np.testing.assert_array_equal(after.affine, before.affine)
    for key in ("dim", "datatype", "xyzt_units", "qform_code", "sform_code"):
        np.testing.assert_array_equal(after.header[key], before.header[key])


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (2, 3)])
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e6])  # near the origin or far: the tolerance is absolute
def test_grids_are_compared_within_a_thousandth_anywhere_in_space(place, size):
    affine = AFFINE * [1, 1, 1, size]
    affine[3, 3] = 1
    there = Geometry(SHAPE, affine)
    for difference, is_same in ((0.0, True), (0.9e-3, True), (-0.9e-3, True), (1.1e-3, False), (np.nan, False)):
        moved = affine.copy()
        moved[place] += difference
        here = Geometry(SHAPE, moved, SourceGrid(SHAPE, moved, qform_code=4))  # how a file says it does not matter
        assert here.same_as(there) is there.same_as(here) is is_same, difference
    assert not there.same_as(Geometry((5, 7, 4), affine))


@settings(max_examples=40, deadline=None)
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3))
def test_an_oblique_volume_keeps_each_voxel_at_its_place(angles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("oblique")
    affine = oblique(angles)
    nib.save(nib.Nifti1Image(VOXELS, affine), folder / "in.nii.gz")
    volume = Volume.load(folder / "in.nii.gz")
    turned = (
        np.linalg.inv(volume.geometry.affine)
        @ affine
        @ np.vstack([np.indices(SHAPE).reshape(3, -1), np.ones(105)])
    )
    np.testing.assert_array_equal(volume.voxels[tuple(turned[:3].round().astype(int))], VOXELS.ravel())
    np.testing.assert_allclose(turned, turned.round(), atol=1e-3)
    volume.save(folder / "out.nii.gz")
    np.testing.assert_array_equal(nib.load(folder / "out.nii.gz").affine, nib.load(folder / "in.nii.gz").affine)


@pytest.mark.parametrize("angles", [(0, 0, 0), (12, -7, 30)])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_itk_and_the_reference_reader_see_the_geometry_of_the_source(axes, angles, tmp_path, write_nifti):
    sitk = pytest.importorskip("SimpleITK")
    source = write_nifti(tmp_path / "in.nii.gz", VOXELS, oblique(angles), axes)
    Volume.load(source).save(tmp_path / "out.nii.gz", "synthetic")
    before, after = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    assert after.GetSize() == before.GetSize()
    for quantity in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(after, quantity)() == pytest.approx(getattr(before, quantity)(), abs=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before))
    if shutil.which("nifti_tool"):
        check = ["nifti_tool", "-check_hdr", "-check_nim", "-infiles", str(tmp_path / "out.nii.gz")]
        said = subprocess.run(check, capture_output=True, text=True, check=True).stdout
        assert said.count("GOOD") == 2


def test_an_affine_with_shear_is_kept_as_sform_and_never_as_qform(tmp_path):
    affine = AFFINE.copy()
    affine[0, 2] = 1.0
    image = nib.Nifti1Image(VOXELS, affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "in.nii.gz")
    Volume.load(tmp_path / "in.nii.gz").save(tmp_path / "out.nii.gz")
    header = nib.load(tmp_path / "out.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 2)
    np.testing.assert_array_equal(header.get_sform(), affine.astype(np.float32))


def test_a_file_with_a_qform_alone_is_written_with_a_qform_alone(tmp_path):
    image = nib.Nifti1Image(VOXELS, None)
    image.set_qform(oblique((5, 10, 15)), 2)
    nib.save(image, tmp_path / "in.nii.gz")
    Volume.load(tmp_path / "in.nii.gz").save(tmp_path / "out.nii.gz")
    after = nib.load(tmp_path / "out.nii.gz")
    assert (int(after.header["qform_code"]), int(after.header["sform_code"])) == (2, 0)
    np.testing.assert_allclose(after.affine, nib.load(tmp_path / "in.nii.gz").affine, atol=1e-4)


def test_meters_are_read_as_millimeters_and_written_as_meters(tmp_path):
    affine = AFFINE.copy()
    affine[:3] /= 1000
    image = nib.Nifti1Image(VOXELS, affine)
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "in.nii.gz")
    volume = Volume.load(tmp_path / "in.nii.gz")
    assert volume.geometry.spacing == pytest.approx((0.75, 1.5, 5.0))
    volume.save(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(
        nib.load(tmp_path / "out.nii.gz").affine, nib.load(tmp_path / "in.nii.gz").affine
    )


def test_equal_volumes_give_equal_bytes(tmp_path):
    volume = Volume(VOXELS, Geometry(SHAPE, AFFINE))
    for name in ("a", "b"):
        volume.save(tmp_path / f"{name}.nii.gz", "synthetic " * 20)
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "b.nii.gz").read_bytes()
    assert content[4:8] == bytes(4)  # the time in the gzip header
    assert nib.load(tmp_path / "a.nii.gz").header["descrip"].item().decode() == ("synthetic " * 20)[:79]
    volume.save(tmp_path / "a.nii", "synthetic " * 20)
    assert gzip.decompress(content) == (tmp_path / "a.nii").read_bytes()


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [("int16", "int16"), (">i2", "int16"), ("uint8", "uint8"), ("float32", "float32"), ("float64", "float32")],
)
def test_the_dtype_is_that_of_the_file_but_never_float64(stored, loaded, tmp_path):
    voxels = (np.abs(VOXELS) % 100).astype(stored)
    header = nib.Nifti1Header(endianness=">" if stored.startswith(">") else "<")
    header.set_data_dtype(stored)
    nib.save(nib.Nifti1Image(voxels, AFFINE, header), tmp_path / "in.nii")
    volume = Volume.load(tmp_path / "in.nii")
    assert volume.voxels.dtype == loaded
    assert volume.voxels.dtype.isnative
    np.testing.assert_array_equal(volume.voxels, voxels)


def test_a_file_that_scales_its_values_becomes_float32(tmp_path):
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.header.set_slope_inter(0.5, -1024.0)
    nib.save(image, tmp_path / "in.nii.gz")
    volume = Volume.load(tmp_path / "in.nii.gz")
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels, VOXELS / 2 - 1024)


def test_a_trailing_axis_of_one_is_dropped(tmp_path):
    nib.save(nib.Nifti1Image(VOXELS[..., None], AFFINE), tmp_path / "in.nii.gz")
    np.testing.assert_array_equal(Volume.load(tmp_path / "in.nii.gz").voxels, VOXELS)


def broken_file(folder, what):
    """Writes a file with something wrong with it; returns its path."""
    path = folder / f"{what.replace(' ', '_')}.nii.gz"
    image = nib.Nifti1Image(VOXELS, AFFINE)
    if what == "4-D":
        image = nib.Nifti1Image(np.stack([VOXELS] * 2, axis=-1), AFFINE)
    elif what == "2-D":
        image = nib.Nifti1Image(VOXELS[..., 0], AFFINE)
    elif what == "zero size":
        image = nib.Nifti1Image(VOXELS[:, :0], AFFINE)
    elif what == "complex":
        image = nib.Nifti1Image(VOXELS.astype(np.complex64), AFFINE)
    elif what == "singular":
        image.set_sform(np.diag([1, 1, 0, 1]), 1)
    elif what == "no axes":
        image = nib.Nifti1Image(VOXELS, None)
    nib.save(image, path)
    content = {
        "empty": b"",
        "not gzip": gzip.decompress(path.read_bytes()),
        "truncated": path.read_bytes()[:-20],
        "damaged": path.read_bytes()[:-8] + bytes(8),
        "not NIfTI": gzip.compress(b"\x89PNG" * 200),
        "short": gzip.compress(gzip.decompress(path.read_bytes())[:-5]),
    }
    if what in content:
        path.write_bytes(content[what])
    elif what == "missing":
        path.unlink()
    elif what == "folder":
        path.unlink()
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "no such file"),
        ("folder", "cannot read it"),
        ("empty", "empty"),
        ("not gzip", "not a gzip file"),
        ("truncated", "cut off or damaged"),
        ("damaged", "CRC|damaged"),
        ("short", "last 5 bytes are missing"),
        ("not NIfTI", "not a NIfTI file"),
        ("4-D", r"\(5, 7, 3, 2\)"),
        ("2-D", r"\(5, 7\)"),
        ("zero size", r"\(5, 0, 3\)"),
        ("complex", "complex64"),
        ("singular", "three axes"),
        ("no axes", "left and right are unknown"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(what, said, tmp_path):
    path = broken_file(tmp_path, what)
    with pytest.raises(DataError, match=said) as error:
        Volume.load(path)
    assert error.value.message.startswith(str(path))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_gzip_file_reaches_the_voxels(place, bit, tmp_path_factory):
    path = tmp_path_factory.mktemp("flipped") / "ct.nii.gz"
    Volume(VOXELS, Geometry(SHAPE, AFFINE)).save(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        np.testing.assert_array_equal(Volume.load(path).voxels, VOXELS)  # the gzip header's time says nothing
    except DataError as error:
        assert error.message.startswith(str(path))  # noqa: PT017  one or the other


def test_a_gzip_file_with_several_members_and_padding_is_read_completely(tmp_path):
    nib.save(nib.Nifti1Image(VOXELS, AFFINE), tmp_path / "ct.nii")
    plain = (tmp_path / "ct.nii").read_bytes()
    members = gzip.compress(plain[:400]) + gzip.compress(plain[400:]) + bytes(100)
    (tmp_path / "ct.nii.gz").write_bytes(members)
    np.testing.assert_array_equal(Volume.load(tmp_path / "ct.nii.gz").voxels, VOXELS)
    (tmp_path / "ct.nii.gz").write_bytes(members + b"junk")
    with pytest.raises(DataError, match="cut off or damaged"):
        Volume.load(tmp_path / "ct.nii.gz")


def test_an_unwritable_folder_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "x.nii.gz" / "in the way").mkdir(parents=True)  # permissions do not stop root
    with pytest.raises(RunError, match=r"x\.nii\.gz: cannot write it"):
        Volume(VOXELS, Geometry(SHAPE, AFFINE)).save(tmp_path / "x.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["x.nii.gz"]


def test_a_geometry_survives_json_bit_for_bit():
    geometry = Geometry.of(SourceGrid((7, 3, 5), oblique((91, 2, 3)), 10, 1, 2))
    again = Geometry.from_json(geometry.as_json())
    assert again.as_json() == geometry.as_json()
    assert again.source is not None
    assert again.source.shape == (7, 3, 5)
    assert again.shape == geometry.shape
    assert np.array_equal(again.affine, geometry.affine)


def with_extension(path, xml):
    image = nib.Nifti1Image(VOXELS.astype(np.uint8), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml.encode()))
    nib.save(image, path)
    return path


TABLE = (  # as TotalSegmentator 2.18 writes it
    '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <Date><![CDATA[2013-07-14T05:45:09]]></Date>   '
    '<VolumeInformation Index="0">   <LabelTable>\n'
    '<Label Key="1" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[spleen]]></Label>\n'
    '<Label Key="5" Red="1.0" Green="0.0" Blue="0.5" Alpha="1"><![CDATA[liver]]></Label>\n\n'
    "  </LabelTable>  <StudyMetaDataLinkSet>  </StudyMetaDataLinkSet>  <VolumeType><![CDATA[Label]]></VolumeType>"
    "   </VolumeInformation></CaretExtension>\n              "
)


def test_the_label_names_that_totalsegmentator_left_are_found(tmp_path):
    assert Volume.load(with_extension(tmp_path / "seg.nii.gz", TABLE)).names == {1: "spleen", 5: "liver"}


@pytest.mark.parametrize(
    "xml",
    [
        "a comment",
        TABLE.replace("</LabelTable>", ""),
        TABLE.replace('Key="5"', 'Key="five"'),
        TABLE.replace("?> <C", '?> <!DOCTYPE x [<!ENTITY a "aaaa">]><C'),
    ],
)
def test_other_extensions_are_no_label_names(xml, tmp_path):
    assert Volume.load(with_extension(tmp_path / "seg.nii.gz", xml)).names is None


def test_most_files_have_no_label_names(tmp_path, write_nifti):
    assert Volume.load(write_nifti(tmp_path / "seg.nii.gz", VOXELS, AFFINE)).names is None
