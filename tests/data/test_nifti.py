"""Headers that no program should write: refused by name, before anything is allocated for what they declare."""

import gzip
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from ctsynth.data import nifti
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError, RunError

VOXELS = np.random.default_rng(0).integers(-1024, 2000, (5, 7, 3)).astype(np.int16)
AFFINE = np.diag([0.75, 0.75, 5, 1])
DIM, PIXDIM, VOX_OFFSET, SCALE, QFORM_CODE, QUATERNION, SROW = 40, 76, 108, 112, 252, 256, 280
"""Places in the header of NIfTI-1."""


def plain():
    return bytearray(nib.Nifti1Image(VOXELS, AFFINE).to_bytes())


def with_field(place, form, *values):
    content = plain()
    struct.pack_into(form, content, place, *values)
    return content


CASES = {
    "an offset of inf": (with_field(VOX_OFFSET, "<f", np.inf), "begin at byte inf"),
    "an offset of nan": (with_field(VOX_OFFSET, "<f", np.nan), "begin at byte nan"),
    "an offset of 1e30": (with_field(VOX_OFFSET, "<f", 1e30), r"begin at byte 1e\+30"),
    "an offset below 0": (with_field(VOX_OFFSET, "<f", -16), "vox offset|begin at byte"),
    "an offset with a fraction": (with_field(VOX_OFFSET, "<f", 352.5), r"begin at byte 352\.5"),
    "an offset beyond the end": (with_field(VOX_OFFSET, "<f", 65536), "bytes are missing"),
    "dims whose product overflows": (
        with_field(DIM, "<8h", 3, *[32767] * 7),
        "its shape is .32767, 32767, 32767",
    ),
    "more than the file holds": (
        with_field(DIM, "<4h", 3, 1000, 1000, 1000),
        "last 1,999,999,7.. bytes",
    ),
    "a side of 30000": (
        with_field(DIM, "<4h", 3, 30000, 1, 1),
        "shape is .30000, 1, 1., wanted up to 8,192",
    ),
    "slices too far from square": (
        with_field(DIM, "<4h", 3, 8000, 1, 100) + bytes(1_600_000),
        "padded to squares",
    ),
    "dims below 0": (with_field(DIM, "<4h", 3, -5, 7, 3), r"its shape is \(-5, 7, 3\)"),
    "a vector of no length": (with_field(DIM, "<4h", 3, -1, 1, 1), "not a NIfTI file"),
    "8 dims": (with_field(DIM, "<h", 8), "NIfTI|shape"),
    "an intercept of inf": (with_field(SCALE, "<2f", 1, np.inf), "its scale cannot be used"),
    "an affine of nan": (with_field(SROW, "<f", np.nan), "is not of finite numbers"),
    "an affine of 1e38": (with_field(SROW, "<f", 1e38), "is not of finite numbers"),
    "voxels of a nanometer": (with_field(SROW, "<f", 1e-6), "has voxels of 1e-06 x 0.75 x 5 mm, wanted 0.01"),
    "voxels of a kilometer": (with_field(SROW, "<f", 1e6), r"has voxels of 1e\+06 x 0.75 x 5 mm"),
    "a quaternion of length 3": (
        with_field(QFORM_CODE, "<2h6f", 1, 0, 1.0, 1.0, 1.0, 0, 0, 0),
        "its qform cannot be used",
    ),
    "codes that are none": (with_field(QFORM_CODE, "<2h", -7, 99), "left and right are unknown"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["nii", "gz"])
@pytest.mark.parametrize("case", CASES)
def test_an_impossible_header_is_refused_with_its_value(case, packed, tmp_path, capfd):
    content, said = CASES[case]
    path = tmp_path / ("ct.nii.gz" if packed else "ct.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=said) as refused:
        Volume.load(path)
    assert refused.value.message.startswith(f"{path}: ")
    assert capfd.readouterr() == ("", "")  # nibabel's own lines


@pytest.mark.parametrize("lengths", [(2**62,) * 3, (2**63 - 1, 1, 1), (-(2**63), 1, 2**62)], ids=str)
def test_the_dims_of_nifti_2_do_not_overflow_either(lengths, tmp_path):
    content = bytearray(nib.Nifti2Image(VOXELS, AFFINE).to_bytes())
    struct.pack_into("<4q", content, 16, 3, *lengths)
    (tmp_path / "ct.nii").write_bytes(content)
    with pytest.raises(DataError, match="its shape is"):
        Volume.load(tmp_path / "ct.nii")


def test_codes_of_nifti_2_that_nifti_1_does_not_have_can_be_written(tmp_path):
    content = bytearray(nib.Nifti2Image(VOXELS, AFFINE).to_bytes())
    struct.pack_into("<3i", content, 344, 70_000, 2, 0x1234_0002)  # qform_code, sform_code, xyzt_units
    struct.pack_into("<i", content, 500, 0x1234_0002)
    (tmp_path / "ct.nii").write_bytes(content)
    Volume.load(tmp_path / "ct.nii").save(tmp_path / "again.nii")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "again.nii").dataobj), VOXELS)


def test_no_more_is_unpacked_than_the_header_declares(tmp_path):
    member = gzip.compress(bytes(1 << 24), 1)
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(plain()) + member * 64)  # 1 GiB
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than the 562 bytes that its header declares"):
        Volume.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()


def test_more_than_this_machines_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(gzip.compress(with_field(DIM, "<4h", 3, 1000, 1000, 1000)))
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**18}[name])
    with pytest.raises(RunError, match=r"declares 1\.9 GiB of voxels, and this machine has 1\.0 GiB of memory"):
        Volume.load(path)


def test_values_that_a_scale_makes_infinite_are_infinite_and_no_warning(tmp_path):
    (tmp_path / "ct.nii").write_bytes(with_field(SCALE, "<2f", 3e38, 0))
    assert np.isinf(Volume.load(tmp_path / "ct.nii").voxels).any()


@pytest.mark.parametrize("size", [-16, 0, 7, 4096, 2**31 - 1])
def test_an_extension_that_does_not_fit_before_the_voxels_is_refused(size, tmp_path):
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, b"names of labels"))
    content = bytearray(image.to_bytes())
    assert nifti._extensions(tmp_path, image.header, bytes(content[:384]))[0][1].startswith(b"names of labels")
    struct.pack_into("<i", content, 352, size)
    (tmp_path / "ct.nii").write_bytes(content)
    with pytest.raises(DataError, match="does not fit before the voxels"):
        Volume.load(tmp_path / "ct.nii")


def test_a_header_description_is_read_without_the_voxels(tmp_path):
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.header["descrip"] = b"not a patient"
    nib.save(image, tmp_path / "ct.nii.gz")
    assert nifti.description(tmp_path / "ct.nii.gz") == "not a patient"
    (tmp_path / "x.nii.gz").write_bytes((tmp_path / "ct.nii.gz").read_bytes()[:20])
    for name in ("x.nii.gz", "none.nii", "."):
        assert nifti.description(tmp_path / name) == ""
