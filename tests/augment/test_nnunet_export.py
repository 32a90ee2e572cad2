"""Raw data sets for nnU-Net: its rules on names and fields, equal grids, one split in all arms, nothing lost."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from small_cases import make_small_case

from ctsynth.augment.nnunet import Case, Dataset, write_datasets
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError, UsageError
from ctsynth.labels import AMOS22


class Reader:
    """Makes the volumes of a case, and counts how often."""

    def __init__(self, number, shift=0):
        self.number, self.shift, self.reads = number, shift, 0

    def __call__(self):
        self.reads += 1
        case = make_small_case(self.number)
        labels = np.where((case.labels == 0) & (case.hu > -500), AMOS22.body_id, case.labels).astype(np.uint8)
        geometry = Geometry(case.hu.shape, case.affine)
        return Volume((case.hu + self.shift).astype(np.int16), geometry), Volume(labels, geometry)


def case(name, number, shift=0):
    return Case(name, f"{number}/{shift}", Reader(number, shift))


def arms():
    """The real arm, and one with a synthetic case beside each real one."""
    real, synthetic = [case("a", 1), case("b", 2)], [case("a_synthetic_0", 1, 5), case("b_synthetic_0", 2, 5)]
    common = {"validation": [case("c", 3)], "test": [case("t", 4)]}
    return [
        Dataset(number=701, name="R", train=real, **common),
        Dataset(number=702, name="R+S", train=[*real, *synthetic], **common),
    ]


def write(out, datasets=None, **options):
    return list(write_datasets(out, datasets or arms(), AMOS22, **options))


def volumes(root):
    return {path.relative_to(root).as_posix(): path for path in sorted(root.glob("*/*.nii.gz"))}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("nnunet")
    return out, write(out)


def test_files_have_nnunets_names(written):
    _, (real, augmented) = written
    assert real.name == "Dataset701_R"
    assert list(volumes(real)) == [
        *(f"imagesTr/{name}_0000.nii.gz" for name in "abc"), "imagesTs/t_0000.nii.gz",
        *(f"labelsTr/{name}.nii.gz" for name in "abc"), "labelsTs/t.nii.gz",
    ]  # fmt: skip
    assert set(volumes(augmented)) > set(volumes(real))


def test_dataset_json_has_nnunets_fields_and_consecutive_labels(written):
    for root, cases in zip(written[1], (3, 5), strict=True):
        content = json.loads((root / "dataset.json").read_text())
        assert content["channel_names"] == {"0": "CT"}
        assert (content["numTraining"], content["file_ending"]) == (cases, ".nii.gz")
        assert content["labels"]["background"] == 0
        assert list(content["labels"].values()) == list(range(16))
        assert content["labels"]["liver"] == 6


def test_every_image_and_its_labels_have_one_grid_and_known_values(written):
    for root in written[1]:
        known = set(json.loads((root / "dataset.json").read_text())["labels"].values())
        for part in ("Tr", "Ts"):
            for path in (root / f"images{part}").glob("*.nii.gz"):
                image = nib.load(path)
                mask = nib.load(root / f"labels{part}" / path.name.replace("_0000", ""))
                assert image.shape == mask.shape
                assert np.array_equal(image.affine, mask.affine)
                assert set(np.unique(mask.dataobj)) <= known


def test_voxels_come_back_and_the_body_is_background(written):
    _, (root, _) = written
    image, labels = Reader(1)()
    found = Volume.load(root / "labelsTr" / "a.nii.gz").voxels
    assert np.array_equal(Volume.load(root / "imagesTr" / "a_0000.nii.gz").voxels, image.voxels)
    assert np.array_equal(found, np.where(labels.voxels == AMOS22.body_id, 0, labels.voxels))


def test_all_arms_have_the_same_validation_and_test_cases(written):
    out, roots = written
    splits = [
        json.loads((out / "nnUNet_preprocessed" / root.name / "splits_final.json").read_text()) for root in roots
    ]
    assert splits[0] == [{"train": ["a", "b"], "val": ["c"]}]
    assert splits[1] == [{"train": ["a", "b", "a_synthetic_0", "b_synthetic_0"], "val": ["c"]}]
    tests = [{path.name: path.read_bytes() for path in (root / "imagesTs").glob("*.nii.gz")} for root in roots]
    assert tests[0] == tests[1]


def test_a_case_of_several_arms_takes_its_space_once(written):
    real, augmented = (root / "imagesTr" / "a_0000.nii.gz" for root in written[1])
    assert real.samefile(augmented)


def test_without_hard_links_the_case_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    real, augmented = (root / "imagesTr" / "a_0000.nii.gz" for root in write(tmp_path))
    assert real.read_bytes() == augmented.read_bytes()
    assert not real.samefile(augmented)


def state(out):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*.nii.gz")}


def test_a_second_run_reads_and_writes_no_case(tmp_path):
    write(tmp_path)
    before, again = state(tmp_path), arms()
    write(tmp_path, again)
    assert state(tmp_path) == before
    assert not any(one.read.reads for arm in again for one in (*arm.train, *arm.validation, *arm.test))


def test_an_interrupted_export_is_continued_to_the_same_bytes(tmp_path):
    write(tmp_path / "whole")
    stopped = write_datasets(tmp_path / "broken", arms(), AMOS22)
    root = next(stopped)
    stopped.close()
    (root / "labelsTr" / "b.nii.gz").unlink()
    image = root / "imagesTr" / "a_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:100])
    write(tmp_path / "broken")
    whole, broken = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (tmp_path / "whole", tmp_path / "broken")
    )
    assert broken == whole


def test_a_case_made_from_something_else_is_replaced_only_if_told(tmp_path):
    changed = arms()
    changed[0] = Dataset(number=701, name="R", train=[case("a", 1, 9)], validation=changed[0].validation)
    write(tmp_path)
    with pytest.raises(UsageError, match="not a case of this data set"):
        write(tmp_path, changed)
    root, _ = write(tmp_path, changed, overwrite=True)
    assert list(volumes(root)) == [
        "imagesTr/a_0000.nii.gz", "imagesTr/c_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/c.nii.gz",
    ]  # fmt: skip
    assert np.array_equal(Volume.load(root / "imagesTr" / "a_0000.nii.gz").voxels, Reader(1, 9)()[0].voxels)
    other = [Dataset(number=701, name="R", train=[case("a", 2)], validation=changed[0].validation)]
    with pytest.raises(UsageError, match="made from something else"):
        write(tmp_path, other)


def test_a_users_data_set_is_left_alone(tmp_path):
    root = tmp_path / "nnUNet_raw" / "Dataset701_R"
    root.mkdir(parents=True)
    (root / "dataset.json").write_text('{"labels": {}}')
    with pytest.raises(UsageError, match="not overwritten"):
        write(tmp_path, overwrite=True)
    (root / "dataset.json").unlink()
    shutil.copytree(write(tmp_path / "other")[0] / "imagesTr", root / "imagesTr")
    (root / "imagesTr" / "a_0000.json").unlink()
    with pytest.raises(UsageError, match="no record"):
        write(tmp_path, overwrite=True)
    (root / "imagesTr" / "a_0000.nii.gz").rename(root / "imagesTr" / "mine_0000.nii.gz")
    with pytest.raises(UsageError, match="mine_0000"):
        write(tmp_path, overwrite=True)


def test_image_and_labels_on_different_grids_are_an_error(tmp_path):
    def read():
        image, labels = Reader(1)()
        return image, Volume(labels.voxels, Geometry(labels.geometry.shape, 2 * labels.geometry.affine))

    broken = Dataset(number=1, name="X", train=[Case("a", "1", read)], validation=[case("c", 3)])
    with pytest.raises(DataError, match="different grids"):
        write(tmp_path, [broken])


def test_labels_that_are_none_of_the_sets_are_an_error(tmp_path):
    def read():
        image, labels = Reader(1)()
        return image, Volume(labels.voxels + np.uint8(60), labels.geometry)

    broken = Dataset(number=1, name="X", train=[Case("a", "1", read)], validation=[case("c", 3)])
    with pytest.raises(DataError, match="wanted integers from 0 to 16"):
        write(tmp_path, [broken])


@pytest.mark.parametrize(
    ("number", "name", "names"),
    [(0, "R", "ac"), (1000, "R", "ac"), (1, "R S", "ac"), (1, "R", "aa"), (1, "R", "a")],
)
def test_what_nnunet_could_not_read_is_an_error(number, name, names):
    cases = [case(one, 1) for one in names]
    with pytest.raises(ValueError, match=r"data set|different names"):
        Dataset(number=number, name=name, train=cases[:1], validation=cases[1:])


def test_two_data_sets_of_one_number_are_an_error(tmp_path):
    with pytest.raises(UsageError, match="same number"):
        write(tmp_path, [arms()[0], arms()[0]])
