"""DICOM: what is read lies where GDCM says, what is written GDCM reads; what is no one CT series is refused."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from write_dicom import (
    ORIGIN,
    SPACING,
    hu,
    pydicom,
    sitk,
    write_contours,
    write_seg,
    write_slices,
)

from ctsynth.data.find_volumes import volumes
from ctsynth.data.formats import is_dicom, stem
from ctsynth.data.relabel import read_labels
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError
from ctsynth.files import sha256
from ctsynth.labels import AMOS22

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def by_gdcm(folder):
    """(Z, H, W) voxels and RAS+ affine of a series, as GDCM reads them."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), LPS @ affine


def file_order(volume):
    """(Z, H, W) of a volume as its slices have it."""
    return volume.on_source_grid()[0].transpose(2, 1, 0)


def test_a_series_is_read_as_it_was_scanned(tmp_path):
    write_slices(tmp_path / "ct", hu())
    (tmp_path / "ct" / "notes.txt").write_text("not DICOM")
    volume = Volume.load(tmp_path / "ct")
    np.testing.assert_array_equal(file_order(volume), hu())
    voxels, affine = by_gdcm(tmp_path / "ct")
    np.testing.assert_array_equal(voxels, hu())
    np.testing.assert_allclose(volume.geometry.source.affine, affine, atol=1e-3)
    assert volume.voxels.dtype == np.int16
    assert is_dicom(tmp_path / "ct")
    assert volumes(tmp_path) == [tmp_path / "ct"]
    assert stem(tmp_path / "ct") == "ct"


def test_values_that_are_rescaled_to_fractions_stay_so(tmp_path):
    write_slices(tmp_path / "ct", hu(), RescaleSlope=0.5, RescaleIntercept=-512)
    np.testing.assert_allclose(file_order(Volume.load(tmp_path / "ct")), hu() / 2)


def test_a_compressed_series_is_read(tmp_path):
    for file in write_slices(tmp_path / "ct", hu()):
        one = pydicom.dcmread(file)
        one.compress(pydicom.uid.RLELossless)
        one.save_as(file)
    np.testing.assert_array_equal(file_order(Volume.load(tmp_path / "ct")), hu())


OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (3, -5, 170), degrees=True).as_matrix() * (0.7, 0.8, 5.0)
OBLIQUE[:3, 3] = (-31.123456, 12, -700.5)


@pytest.mark.parametrize("affine", [np.diag([0.7123456, 0.8, 5, 1]), OBLIQUE], ids=["axial", "oblique"])
def test_gdcm_reads_the_written_files_as_a_series(affine, tmp_path):
    voxels = hu().transpose(2, 1, 0).copy()
    volume = Volume(voxels, Geometry(voxels.shape, affine))
    volume.save(tmp_path / "a.dicom", "not a patient", (-160, 240))
    found, where = by_gdcm(tmp_path / "a.dicom")
    again = Volume.load(tmp_path / "a.dicom")
    for place in ((0, 0, 0), (5, 2, 1), (11, 8, 5)):
        x, y, z = np.rint(np.linalg.solve(where, affine @ (*place, 1)))[:3].astype(int)
        np.testing.assert_allclose(where @ (x, y, z, 1), affine @ (*place, 1), atol=1e-3)
        assert found[z, y, x] == voxels[place]
    if affine is not OBLIQUE:
        np.testing.assert_array_equal(again.voxels, voxels)
        np.testing.assert_allclose(again.geometry.affine, affine, atol=1e-3)


def test_written_dicom_says_synthetic_and_nothing_of_the_patient(tmp_path):
    write_slices(tmp_path / "ct", hu())
    Volume.load(tmp_path / "ct").save(tmp_path / "a.dicom", "synthetic CT, not a patient", (-160, 240))
    theirs = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    files = sorted((tmp_path / "a.dicom").iterdir())
    slices = [pydicom.dcmread(file) for file in files]
    assert len({one.SOPInstanceUID for one in slices}) == len(slices) == 6
    for one in slices:
        assert one.ImageType[0] == "DERIVED"
        assert one.DerivationDescription == one.ImageComments == "synthetic CT, not a patient"
        assert str(one.PatientName) == "SYNTHETIC^CTSYNTH"
        assert (one.WindowCenter, one.WindowWidth) == (40, 400)
        for key in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
            assert one[key].value != theirs[key].value
        for key in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert one[key].value == slices[0][key].value
    before = sha256(tmp_path / "a.dicom")
    Volume.load(tmp_path / "ct").save(tmp_path / "a.dicom", "synthetic CT, not a patient", (-160, 240))
    assert sha256(tmp_path / "a.dicom") == before


def tilted(folder):
    angle = np.radians(12)
    write_slices(folder, hu(), normal=(0, np.sin(angle), np.cos(angle)))


def with_a_gap(folder):
    write_slices(folder, hu())[3].unlink()


def uneven(folder):
    file = write_slices(folder, hu())[3]
    one = pydicom.dcmread(file)
    one.ImagePositionPatient[2] += 1.5
    one.save_as(file)


def two_series(folder):
    write_slices(folder, hu())
    write_slices(folder, hu(1), series="late")


def two_phases(folder):
    write_slices(folder, hu())
    uid = pydicom.uid.generate_uid(entropy_srcs=["ct"])
    write_slices(folder, hu(1), series="late", SeriesInstanceUID=uid)


def with_a_localizer(folder):
    write_slices(folder, hu())
    write_slices(folder, hu()[:1], series="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def coronal_too(folder):
    write_slices(folder, hu())
    uid = pydicom.uid.generate_uid(entropy_srcs=["ct"])
    turned = {"SeriesInstanceUID": uid, "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    write_slices(folder, hu()[:1], series="coronal", **turned)


def of_mr(folder):
    write_slices(folder, hu(), SOPClassUID="1.2.840.10008.5.1.4.1.1.4")


def cut_off(folder):
    file = write_slices(folder, hu())[2]
    file.write_bytes(file.read_bytes()[:-100])


def claims_2_gb(folder):
    file = write_slices(folder, hu())[2]
    length = b"OW\0\0" + hu()[0].nbytes.to_bytes(4, "little")
    assert length in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(length, b"OW\0\0" + (1 << 31).to_bytes(4, "little")))


def claims_2_gb_in_a_sequence(folder):
    item = pydicom.Dataset()
    item.SeriesDescription = "x" * 20
    file = write_slices(folder, hu(), ReferencedSeriesSequence=[item])[2]
    found = file.read_bytes()
    assert found.count(b"LO\x14\0xxxx") == 1
    file.write_bytes(found.replace(b"LO\x14\0xxxx", b"UN\0\0\0\0\0\x80"))


REFUSED = {
    tilted: r"the gantry was tilted by 12\.0 degrees",
    with_a_gap: r"slices are missing between -691\.75 and -682\.75 mm along the table; the others are 4\.50 mm",
    uneven: r"slices lie unevenly, 3\.000 to 6\.000 mm apart",
    two_series: r"holds 2 CT series: 'ct' \(6 images\), 'late' \(6 images\)",
    two_phases: r"two slices lie at -700\.75 mm: mixed acquisitions in one series",
    with_a_localizer: r"a localizer is among the slices: scout000\.dcm",
    coronal_too: r"mixed slices: ImageOrientationPatient is",
    of_mr: r"no slices of a CT in it; it holds MR Image Storage",
    cut_off: r"element \(7FE0,0010\) declares 216 bytes, and 116 are there",
    claims_2_gb: r"element \(7FE0,0010\) declares 2147483648 bytes, and 216 are there",
    claims_2_gb_in_a_sequence: r"element \(0008,103E\) declares 2147483648 bytes, and 16 are there",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_folder_that_is_not_one_ct_series_is_refused(make, tmp_path):
    make(tmp_path / "ct")
    with pytest.raises(DataError, match=REFUSED[make]):
        Volume.load(tmp_path / "ct")


def liver_and_spleen():
    masks = {name: np.zeros(hu().shape, bool) for name in ("Liver", "Spleen")}
    masks["Liver"][2:5, 1:5, 1:6] = True
    masks["Spleen"][1:3, 6:8, 8:11] = True
    return masks


def check_labels(volume, path):
    labels = read_labels(path, volume, AMOS22).voxels
    slices = Volume(labels, volume.geometry).on_source_grid()[0].transpose(2, 1, 0)
    masks = liver_and_spleen()
    np.testing.assert_array_equal(slices, 6 * masks["Liver"] + masks["Spleen"])


@pytest.mark.parametrize("place", ["beside", "above", "named"])
def test_a_segmentation_comes_on_the_grid_of_its_ct(place, tmp_path):
    files = write_slices(tmp_path / "series" / "ct", hu())
    folder = {"beside": "series/ct", "above": "series/seg", "named": "elsewhere/deep"}[place]
    path = tmp_path / folder / "seg.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_seg(path, files, liver_and_spleen())
    volume = Volume.load(path, tmp_path / "series" / "ct" if place == "named" else None)
    assert volume.geometry.same_as(Volume.load(tmp_path / "series" / "ct").geometry)
    assert volumes(path.parent) == [path]
    check_labels(volume, path)


def test_a_segmentation_without_its_ct_has_its_own_grid(tmp_path, caplog):
    write_seg(tmp_path / "seg.dcm", write_slices(tmp_path / "a" / "b" / "ct", hu()), liver_and_spleen())
    volume = Volume.load(tmp_path / "seg.dcm")
    assert volume.voxels.shape == (12, 9, 4)  # of its slices four are labeled
    assert "seg.dcm: its CT is not beside it: slices above and below its labels are left out" in caplog.text
    lowest = LPS @ (*ORIGIN[:2], ORIGIN[2] + SPACING[0], 1)
    corner = volume.geometry.source.affine @ (0, 0, 0 if volume.geometry.source.affine[2, 2] > 0 else 3, 1)
    np.testing.assert_allclose(corner, lowest, atol=1e-3)


def test_segments_that_share_voxels_and_fractions_are_refused(tmp_path):
    files = write_slices(tmp_path / "ct", hu())
    masks = liver_and_spleen()
    masks["Spleen"] |= masks["Liver"]
    write_seg(tmp_path / "shared.dcm", files, masks)
    with pytest.raises(DataError, match=r"segments 'Liver' and 'Spleen' share 60 voxels"):
        Volume.load(tmp_path / "shared.dcm")
    write_seg(tmp_path / "half.dcm", files, {"Liver": 0.5 * masks["Liver"]}, kind="FRACTIONAL")
    with pytest.raises(DataError, match="a fractional segmentation"):
        Volume.load(tmp_path / "half.dcm")


def around(mask):
    """Rectangles half a voxel around the boxes of a mask, as mm."""
    curves = []
    for place in np.flatnonzero(mask.any(axis=(1, 2))):
        rows, columns = (np.flatnonzero(mask[place].any(axis=axis)) for axis in (1, 0))
        (top, bottom), (left, right) = ((side.min() - 0.5, side.max() + 0.5) for side in (rows, columns))
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        points = np.full((4, 3), ORIGIN[2] + place * SPACING[0])
        points[:, :2] = np.array(ORIGIN[:2]) + corners * (SPACING[2], SPACING[1])
        curves.append(points)
    return curves


def test_contours_come_on_the_grid_of_their_ct(tmp_path):
    write_slices(tmp_path / "ct", hu())
    (tmp_path / "rt").mkdir()
    path = tmp_path / "rt" / "rs.dcm"
    write_contours(path, {name: around(mask) for name, mask in liver_and_spleen().items()})
    volume = Volume.load(path)
    assert volume.geometry.same_as(Volume.load(tmp_path / "ct").geometry)
    check_labels(volume, path)


def test_a_contour_in_a_contour_is_a_hole(tmp_path):
    write_slices(tmp_path / "ct", hu())
    outer, inner = np.zeros(hu().shape, bool), np.zeros(hu().shape, bool)
    outer[2, 1:8, 1:9], inner[2, 3:5, 4:6] = True, True
    write_contours(tmp_path / "rs.dcm", {"liver": around(outer) + around(inner)})
    np.testing.assert_array_equal(file_order(Volume.load(tmp_path / "rs.dcm", tmp_path / "ct")), outer & ~inner)


def test_contours_without_their_ct_say_what_is_missing(tmp_path):
    write_contours(tmp_path / "rs.dcm", {"liver": around(liver_and_spleen()["Liver"])})
    with pytest.raises(DataError, match="contours lie on their CT's grid, and its series") as caught:
        Volume.load(tmp_path / "rs.dcm")
    assert "`body_from`" in caught.value.hint
    write_slices(tmp_path / "ct", hu()[:3])
    with pytest.raises(DataError, match="'liver' has a contour that lies in no slice of its CT"):
        Volume.load(tmp_path / "rs.dcm", tmp_path / "ct")


def test_a_slice_alone_or_another_file_is_not_taken_for_a_volume(tmp_path):
    file = write_slices(tmp_path / "ct", hu())[0]
    with pytest.raises(DataError, match="one slice of a CT"):
        Volume.load(file)
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.dcm: not a DICOM file"):
        Volume.load(tmp_path / "x.dcm")


def test_without_the_extra_the_message_names_it(tmp_path, monkeypatch):
    write_slices(tmp_path / "ct", hu())
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(DataError, match="needs SimpleITK, which is not installed") as caught:
        Volume.load(tmp_path / "ct")
    assert caught.value.hint == "pip install 'ctsynth[formats]'"


def test_a_real_ct_goes_to_dicom_and_back(real_ct, tmp_path):
    volume = Volume.load(next((real_ct / "imagesTr").glob("*.nii.gz")))
    few = Geometry((*volume.geometry.shape[:2], 12), volume.geometry.affine)
    few = Volume(volume.voxels[:, :, 20:32].astype(np.int16), few)
    few.save(tmp_path / "a.dicom")
    found, where = by_gdcm(tmp_path / "a.dicom")
    np.testing.assert_array_equal(found.transpose(2, 1, 0)[::-1, ::-1], few.voxels)
    corner = where @ (few.geometry.shape[0] - 1, few.geometry.shape[1] - 1, 0, 1)
    np.testing.assert_allclose(corner, few.geometry.affine @ (0, 0, 0, 1), atol=1e-3)
    again = Volume.load(tmp_path / "a.dicom")
    np.testing.assert_allclose(again.geometry.affine, few.geometry.affine, atol=1e-3)
    np.testing.assert_array_equal(again.voxels, few.voxels)
