"""Several samples of one mask, what is uncertain among them, air outside the patient, and other formats."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from small_runs import ctsynth

from ctsynth.data.volume import Volume


@pytest.fixture
def folder(run_folder):
    return run_folder


def sampled(*words):
    return ctsynth("sample", "--steps", 2, "--device", "cpu", *words)


def test_each_sample_is_the_volume_of_its_own_seed(folder):
    done = sampled("--mask", "seg.nii.gz", "--samples", 3, "--seed", 5)
    names = [f"seg_synthetic_{number}.nii.gz" for number in range(3)]
    assert done.stdout.split() == names, done.stderr
    for number, name in enumerate(names):
        sampled("--mask", "seg.nii.gz", "--seed", 5 + number, "--out", f"alone{number}.nii.gz")
        assert (folder / name).read_bytes() == (folder / f"alone{number}.nii.gz").read_bytes()
        assert json.loads((folder / f"seg_synthetic_{number}.json").read_text())["seed"] == 5 + number
    again = sampled("--mask", "seg.nii.gz", "--samples", 3, "--seed", 5)
    assert again.stderr.count("is whole: skipped") == 3


def test_mean_and_deviation_are_those_of_the_samples_in_hu(folder):
    done = sampled("--mask", "seg.nii.gz", "--samples", 3, "--uncertainty")
    assert done.stdout.split()[3:] == ["seg_mean.nii.gz", "seg_std.nii.gz"], done.stderr
    images = [nib.load(folder / f"seg_synthetic_{number}.nii.gz") for number in range(3)]
    samples = np.stack([image.get_fdata() for image in images])
    for name, expected in (("mean", samples.mean(0)), ("std", samples.std(0, ddof=1))):
        found = nib.load(folder / f"seg_{name}.nii.gz")
        np.testing.assert_allclose(found.get_fdata(), expected, atol=1e-3)
        np.testing.assert_array_equal(found.affine, images[0].affine)
        assert json.loads((folder / f"seg_{name}.json").read_text())["summary"] == name
    before = {path: path.stat().st_mtime_ns for path in folder.glob("seg_*")}
    again = sampled("--mask", ".", "--samples", 3, "--uncertainty")  # the mask is seg.nii.gz alone
    assert again.stdout == done.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.glob("seg_*")} == before


def test_summaries_do_not_overwrite_others(folder):
    shutil.copy("seg.nii.gz", "seg_std.nii.gz")
    done = sampled("--mask", "seg.nii.gz", "--samples", 2, "--uncertainty")
    assert done.exit_code == 2
    assert "seg_std.nii.gz: not overwritten: it is not a summary of samples" in done.stderr
    assert not (folder / "seg_synthetic_0.nii.gz").exists()
    (folder / "seg_std.nii.gz").unlink()
    assert sampled("--mask", "seg.nii.gz", "--samples", 2, "--uncertainty").exit_code == 0
    other = sampled("--mask", "seg.nii.gz", "--samples", 3, "--uncertainty")
    assert other.exit_code == 2
    assert "seg_mean.nii.gz: made of other samples" in other.stderr
    assert sampled("--mask", "seg.nii.gz", "--samples", 3, "--uncertainty", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--uncertainty"], "--uncertainty wants 2 samples and more, not 1"),
        (["--samples", 2, "--uncertainty", "--format", "dicom"], "a DICOM CT holds whole numbers of HU"),
        (["--samples", 0], "--samples"),
    ],
)
def test_invalid_arguments_are_refused(folder, words, message):
    done = sampled("--mask", "seg.nii.gz", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_air_is_outside_the_patient_alone(folder):
    sampled("--mask", "seg.nii.gz")
    sampled("--mask", "seg.nii.gz", "--outside", "air", "--out", "air.nii.gz")
    mask, drawn, air = (
        np.asarray(nib.load(name).dataobj) for name in ("seg.nii.gz", "seg_synthetic.nii.gz", "air.nii.gz")
    )
    np.testing.assert_array_equal(air, np.where(mask == 0, -1000, drawn))
    assert drawn.min() >= -160
    assert json.loads((folder / "air.json").read_text())["outside"] == "air"
    for name in ("seg_synthetic.nii.gz", "air.nii.gz"):
        header = nib.load(name).header
        assert (float(header["cal_min"]), float(header["cal_max"])) == (-160, 240)
    refused = sampled("--mask", "seg.nii.gz", "--outside", "air")
    assert "drawn with outside none, not air" in refused.stderr


def test_a_store_is_drawn_with_air_and_samples(folder):
    done = sampled("--data", "out", "--samples", 2, "--outside", "air", "--out", "drawn")
    assert done.stdout.split() == [f"drawn/subject_t_synthetic_{number}.nii.gz" for number in range(2)]
    assert Volume.load(folder / "drawn" / "subject_t_synthetic_1.nii.gz").voxels.min() == -1000


@pytest.mark.parametrize("form", ["nrrd", "mha", "nii"])
def test_other_formats_hold_the_same_volume(folder, form):
    if form != "nii":
        pytest.importorskip("SimpleITK", reason="the extra ctsynth[formats] is not installed")
    Volume.load(folder / "seg.nii.gz").save(folder / f"in.{form}")
    sampled("--mask", "seg.nii.gz")
    shutil.move(f"in.{form}", f"seg.{form}")
    done = sampled("--mask", f"seg.{form}", "--format", form)
    assert done.stdout == f"seg_synthetic.{form}\n", done.stderr
    ours, theirs = Volume.load(folder / f"seg_synthetic.{form}"), Volume.load(folder / "seg_synthetic.nii.gz")
    np.testing.assert_array_equal(ours.voxels, theirs.voxels)
    assert ours.geometry.same_as(theirs.geometry)


def test_from_dicom_to_dicom(folder):
    write_dicom = pytest.importorskip("write_dicom", reason="the extra ctsynth[formats] is not installed")
    masks = {name: np.zeros(write_dicom.SHAPE, bool) for name in ("body", "liver")}
    masks["body"][1:5, 1:8, 1:11] = True
    masks["liver"][2:4, 3:6, 3:7] = True
    masks["body"] &= ~masks["liver"]
    files = write_dicom.write_slices(folder / "case" / "ct", write_dicom.hu())
    write_dicom.write_seg(folder / "case" / "seg.dcm", files, masks)
    done = sampled("--mask", "case/seg.dcm", "--format", "dicom", "--outside", "air")
    assert done.stdout == "case/seg_synthetic.dicom\n", done.stderr
    drawn, ct = Volume.load(folder / "case" / "seg_synthetic.dicom"), Volume.load(folder / "case" / "ct")
    assert drawn.geometry.same_as(ct.geometry)
    np.testing.assert_array_equal(
        drawn.on_source_grid()[0].transpose(2, 1, 0) == -1000, ~(masks["body"] | masks["liver"])
    )
    again = sampled("--mask", "case/seg.dcm", "--format", "dicom", "--outside", "air")
    assert "case/seg_synthetic.dicom is whole: skipped" in again.stderr
    (folder / "case" / "seg_synthetic.dicom" / "0003.dcm").unlink()
    mended = sampled("--mask", "case/seg.dcm", "--format", "dicom", "--outside", "air")
    assert "case/seg_synthetic.dicom is damaged or was not finished: drawn again" in mended.stderr
    np.testing.assert_array_equal(Volume.load(folder / "case" / "seg_synthetic.dicom").voxels, drawn.voxels)


def test_preprocess_takes_series_and_segmentations(folder, small_case):
    write_dicom = pytest.importorskip("write_dicom", reason="the extra ctsynth[formats] is not installed")
    for number in range(2):
        case = small_case(number)
        hu = case.hu[::-1, ::-1].transpose(2, 1, 0)
        labels = case.labels[::-1, ::-1].transpose(2, 1, 0)
        extra = {"PixelSpacing": [12.0, 12.0], "SliceThickness": 4.5}
        files = write_dicom.write_slices(folder / "data" / "ct" / f"a{number}", hu, series=f"a{number}", **extra)
        (folder / "data" / "seg").mkdir(exist_ok=True)
        masks = {"liver": labels == 6, "spleen": labels == 1}
        write_dicom.write_seg(folder / "data" / "seg" / f"a{number}.dcm", files, masks)
    done = ctsynth(
        "preprocess", "data", "store", "--images", "ct", "--labels", "seg", "--size", 32, "--workers", 1,
        "--test-fraction", 0.5,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    record = json.loads((folder / "store" / "manifest.json").read_text())["subjects"][0]
    number = int(record["name"][1:])
    mask = np.load(folder / "store" / record["split"] / record["name"] / "mask.npy")
    expected = small_case(number).labels[::-1, ::-1].transpose(2, 1, 0)
    padded = np.pad(expected, [(0, 0), (4, 4), (0, 0)])
    np.testing.assert_array_equal(np.where(mask == 16, 0, mask), padded)


@pytest.mark.parametrize("form", ["nrrd", "dicom"])
def test_scores_do_not_depend_on_the_format(folder, form):
    pytest.importorskip("write_dicom", reason="the extra ctsynth[formats] is not installed")
    values = []
    for place, suffix in (("nifti", "nii.gz"), ("other", form)):
        done = sampled("--data", "out", "--format", suffix, "--out", place)
        assert done.stdout == f"{place}/subject_t.{suffix}\n", done.stderr
        done = ctsynth("score", place, "--data", "out", "--metrics", "psnr", "--json")
        assert done.exit_code == 0, done.stderr
        values.append(json.loads(done.stdout)["metrics"]["psnr"]["total"]["value"])
    assert values[0] == values[1]


@pytest.mark.parametrize(("form", "package"), [("mha", "SimpleITK"), ("dicom", "pydicom")])
def test_a_format_that_cannot_be_written_is_refused_before_anything_is_drawn(folder, monkeypatch, form, package):
    monkeypatch.setattr("ctsynth.data.formats.find_spec", lambda name: None)
    done = sampled("--mask", "seg.nii.gz", "--format", form)
    assert done.exit_code == 2
    assert f"seg_synthetic.{form}: .{form} needs {package}, which is not installed" in done.stderr
    assert "pip install 'ctsynth[formats]'" in done.stderr
    assert not list(folder.glob("seg_synthetic*"))


def test_the_body_comes_from_the_series_that_contours_were_drawn_on(folder, small_case):
    write_dicom = pytest.importorskip("write_dicom", reason="the extra ctsynth[formats] is not installed")
    case = small_case(1)
    hu = case.hu[::-1, ::-1].transpose(2, 1, 0)
    write_dicom.write_slices(folder / "deep" / "er" / "ct", hu, PixelSpacing=[12.0, 12.0])
    corners = np.array([(20, 9), (25, 9), (25, 14), (20, 14)]) * 12.0 + write_dicom.ORIGIN[:2]
    heights = write_dicom.ORIGIN[2] + np.arange(2, 4) * write_dicom.SPACING[0]
    curves = [np.column_stack([corners, np.full(4, height)]) for height in heights]
    write_dicom.write_contours(folder / "rs.dcm", {"Liver": curves})
    alone = sampled("--mask", "rs.dcm")
    assert alone.exit_code == 2
    assert "name its folder: --body-from FOLDER" in alone.stderr
    done = sampled("--mask", "rs.dcm", "--body-from", "deep/er/ct")
    assert done.stdout == "rs_synthetic.nii.gz\n", done.stderr
    assert json.loads((folder / "rs_synthetic.json").read_text())["body"] == "ct"
    drawn, ct = Volume.load(folder / "rs_synthetic.nii.gz"), Volume.load(folder / "deep" / "er" / "ct")
    assert drawn.geometry.same_as(ct.geometry)
