"""A suffix counts in any case, and two spellings of an accent are one name, wherever volumes are looked for."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ctsynth.data.find_volumes import volumes
from ctsynth.data.formats import SUFFIXES, is_volume, names_a_file, record_beside, stem
from ctsynth.data.layouts import discover
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError, UsageError
from ctsynth.labels import AMOS22
from ctsynth.sampling.cases import cases_of_masks
from ctsynth.scoring.volumes import base_name, match
from ctsynth.segmentation.find import find_segmenter
from ctsynth.segmentation.masks import MaskFolder

SPELLINGS = [
    spelt for suffix in SUFFIXES for spelt in (suffix, suffix.upper(), suffix.title(), ".n" + suffix[2:].upper())
]
COMPOSED, DECOMPOSED = "Jos\u00e9", "Jose\u0301"
VOLUME = Volume(np.ones((3, 4, 5), np.uint8), Geometry((3, 4, 5), np.diag([2.0, 2.0, 5.0, 1.0])))


@pytest.mark.parametrize("suffix", SPELLINGS)
@pytest.mark.parametrize("name", ["a", "a.b", COMPOSED, DECOMPOSED])
def test_a_volume_is_recognized_by_its_file_name(name, suffix):
    path = Path("folder", name + suffix)
    expected = COMPOSED if name == DECOMPOSED else name
    assert is_volume(path)
    assert stem(path) == expected
    assert record_beside(path) == Path("folder", f"{expected}.json")
    assert base_name(path.with_name(f"{name}_synthetic{suffix}")) == expected
    assert not is_volume(path.with_name(f".{name}{suffix}"))


@pytest.mark.parametrize("name", ["a.json", "a.gz", "nii", "a.nii.zip"])
def test_other_files_are_not_volumes(name):
    assert not is_volume(Path(name))
    assert stem(Path(name)) == Path(name).stem


@pytest.mark.parametrize("suffix", SPELLINGS)
def test_a_volume_is_written_and_read_back(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    VOLUME.save(path)
    assert (path.read_bytes()[:2] == gzip.compress(b"")[:2]) == suffix.lower().endswith(".gz")
    np.testing.assert_array_equal(Volume.load(path).voxels, VOLUME.voxels)


@pytest.mark.parametrize("suffix", SPELLINGS)
@pytest.mark.parametrize(("image", "label"), [("a", "a"), ("a_0000", "a"), (COMPOSED, DECOMPOSED)])
def test_preprocess_finds_image_and_label(image, label, suffix, tmp_path):
    for path in (
        tmp_path / "imagesTr" / f"{image}{suffix}",
        tmp_path / "labelsTr" / f"{label}{suffix.swapcase()}",
    ):
        path.parent.mkdir()
        path.touch()
    (case,) = discover(tmp_path).cases
    assert (case.name, case.label) == (stem(path), path)


def test_two_spellings_of_one_subject_are_refused(tmp_path):
    for name in (COMPOSED, DECOMPOSED):
        (tmp_path / "imagesTr").mkdir(exist_ok=True)
        (tmp_path / "imagesTr" / f"{name}.nii.gz").touch()
    if len(volumes(tmp_path / "imagesTr")) < 2:
        pytest.skip("this file system makes one of them")
    with pytest.raises(DataError, match=f"{COMPOSED} is there twice"):
        discover(tmp_path)


@pytest.mark.parametrize("suffix", SPELLINGS)
@pytest.mark.parametrize("name", ["a", COMPOSED, DECOMPOSED])
def test_score_finds_volumes_and_masks(name, suffix, tmp_path):
    for file in (name, f"{name}_synthetic"):
        folder = tmp_path / file
        VOLUME.save(folder / f"{file}{suffix}")
        subject = SimpleNamespace(name=name)
        assert match(folder, [subject], "test", [subject]) == ({name: folder / f"{file}{suffix}"}, [])
        assert isinstance(find_segmenter(str(folder)), MaskFolder)
        found = MaskFolder(folder).segment(VOLUME, AMOS22, name)
        np.testing.assert_array_equal(found.voxels, VOLUME.voxels)


@pytest.mark.parametrize("suffix", SPELLINGS)
def test_sample_finds_masks_and_writes_beside_them(suffix, tmp_path):
    VOLUME.save(tmp_path / f"{DECOMPOSED}{suffix}")
    VOLUME.save(tmp_path / f"{COMPOSED}_synthetic{suffix}")
    (case,) = cases_of_masks(tmp_path, None, None)
    assert (case.name, case.out) == (COMPOSED, tmp_path / f"{COMPOSED}_synthetic.nii.gz")
    (case,) = cases_of_masks(tmp_path, None, tmp_path / f"out{suffix}")
    assert case.out == tmp_path / f"out{suffix}"


@pytest.mark.parametrize("suffix", SPELLINGS)
def test_an_output_with_a_volume_suffix_is_a_file_unless_a_folder_has_that_name(suffix, tmp_path):
    assert names_a_file(tmp_path / f"a{suffix}")
    assert not names_a_file(tmp_path / "a")
    assert not names_a_file(tmp_path / "results.v1")
    (tmp_path / f"a{suffix}").mkdir()
    assert not names_a_file(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["x.seg.nrrd", "x.hdr", "x.dcm", "x.gz", "x.npy"])
def test_an_unsupported_format_is_not_taken_for_a_folder(name, tmp_path):
    with pytest.raises(UsageError, match=rf"{name}: .* is not written, wanted \.nii\.gz, \.nii, .* or a folder"):
        names_a_file(tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["x.mha", "x.NRRD", "x.dicom"])
def test_the_other_formats_that_are_written(name, tmp_path):
    assert names_a_file(tmp_path / name)
    assert is_volume(tmp_path / name)
    assert stem(tmp_path / name) == "x"
