import json
import shutil
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from label_names import write_names

from ctsynth.data import preprocess as module
from ctsynth.data.body import body_mask
from ctsynth.data.preprocess import BrokenSubjectsError, preprocess
from ctsynth.data.settings import Settings, SplitRule
from ctsynth.data.slices import from_slices, to_slices
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.label_files import dataset_label_set, label_set
from ctsynth.labels import AMOS22, LabelSet

SMALL = Settings(size=16)


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_real_ct_give_30_training_and_20_test_slices(real_ct, tmp_path):
    summary = preprocess(real_ct, tmp_path / "out", settings=Settings(), workers=1)
    assert (summary.slices("train"), summary.slices("test")) == (30, 20)
    store = Store.open(tmp_path / "out")
    (train,), (test,) = store.subjects("train"), store.subjects("test")
    assert train.ct().shape == train.mask().shape == (30, 256, 256)
    assert test.ct().shape == (20, 256, 256)
    for subject in (train, test):
        assert (subject.ct().min(), subject.ct().max()) == (-160, 240)
    assert set(train.voxels) == {0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 16}  # README of the cases
    assert set(test.voxels) == {0, 1, 6, 7, 8, 9, 10, 11, 16}
    liver, spine_side = np.argwhere(train.mask()[:] == 6), np.argwhere(train.mask()[:] == 8)
    assert liver[:, 2].mean() < 128 < np.argwhere(train.mask()[:] == 1)[:, 2].mean()  # liver left in the picture
    assert spine_side[:, 1].mean() > np.argwhere(train.mask()[:] == 7)[:, 1].mean()  # aorta behind the stomach


def test_a_slice_of_the_store_is_the_volume_windowed_padded_and_resized(real_ct, tmp_path):
    preprocess(real_ct, tmp_path / "out", settings=Settings(size=122), workers=1)
    (subject,) = Store.open(tmp_path / "out").subjects("train")
    volume = Volume.load(real_ct / "imagesTr" / "ts_example_0001.nii.gz")
    labels = Volume.load(real_ct / "labelsTr" / "ts_example_0001.nii.gz").voxels
    np.testing.assert_array_equal(
        from_slices(subject.ct(), subject.geometry, "ct"), np.clip(volume.voxels, -160, 240)
    )
    mask = from_slices(subject.mask(), subject.geometry, "labels")
    np.testing.assert_array_equal(np.where(mask == 16, 0, mask), labels)
    body = body_mask(volume.voxels, volume.geometry.spacing, labels > 0)
    np.testing.assert_array_equal(mask > 0, body)


def test_workers_shards_and_repetition_give_the_same_bytes(small_amos, tmp_path):
    source = small_amos(3, 2)
    preprocess(source, tmp_path / "one", settings=SMALL, workers=1)
    preprocess(source, tmp_path / "two", settings=SMALL, workers=2)
    for index in (3, 1, 2):
        preprocess(source, tmp_path / "shards", settings=SMALL, workers=1, shard=(index, 3))
    expected = files(tmp_path / "one")
    assert len(expected) == 5 * 3 + 1
    assert files(tmp_path / "two") == files(tmp_path / "shards") == expected
    preprocess(source, tmp_path / "one", settings=SMALL, workers=1, overwrite=True)
    assert files(tmp_path / "one") == expected


def test_a_shard_says_what_is_there_so_far(small_amos, tmp_path):
    source = small_amos(3, 2)
    first = preprocess(source, tmp_path / "out", settings=SMALL, workers=1, shard=(1, 2))
    assert (first.made, len(first.records), len(first.layout.cases)) == (3, 3, 5)
    second = preprocess(source, tmp_path / "out", settings=SMALL, workers=1, shard=(2, 2))
    assert (second.made, len(second.records)) == (2, 5)
    with pytest.raises(UsageError, match="`shard` 3/2"):
        preprocess(source, tmp_path / "out", settings=SMALL, shard=(3, 2))


def test_complete_subjects_are_kept_and_changed_or_damaged_ones_made_again(
    small_amos, small_case, write_nifti, tmp_path
):
    source, out = small_amos(3, 1), tmp_path / "out"
    preprocess(source, out, settings=SMALL, workers=1)
    again = preprocess(source, out, settings=SMALL, workers=1)
    assert (again.made, again.kept) == (0, 4)
    (out / "train" / "amos_0002" / "mask.npy").unlink()
    changed = small_case(77)
    write_nifti(source / "imagesTr" / "amos_0003.nii.gz", changed.hu, small_case(3).affine)
    seen = []
    mended = preprocess(
        source, out, settings=SMALL, workers=1, progress=lambda done, note="": seen.append((done, note))
    )
    assert (mended.made, mended.kept) == (2, 2)
    assert seen == [(1, "amos_0001"), (2, "amos_0002"), (3, "amos_0003"), (4, "amos_0101")]


def test_other_settings_than_those_of_the_store_are_refused_unless_all_is_made_again(small_amos, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    preprocess(source, out, settings=SMALL, workers=1)
    for settings, said in [
        (Settings(size=20), "made with size 16, not 20"),
        (Settings(size=16, level=50), r"level 40\.0, not 50\.0"),
        (Settings(size=16, labels=label_set("totalsegmentator")), "labels amos22, not totalsegmentator"),
        (Settings(size=16, rule=SplitRule(test_fraction=0.5)), "made with split"),
    ]:
        with pytest.raises(UsageError, match=said):
            preprocess(source, out, settings=settings, workers=1)
    halves = Settings(size=20, rule=SplitRule(test_fraction=1.0))
    preprocess(source, out, settings=halves, workers=1, overwrite=True)
    assert Store.open(out).size == 20
    assert [subject.name for subject in Store.open(out).subjects("test")] == [
        "amos_0001",
        "amos_0002",
        "amos_0101",
    ]
    assert not any((out / "train").iterdir())  # a subject lies in one split only


def test_a_store_of_other_colors_is_kept_with_its_colors_and_its_digest(small_amos, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    classes = tuple(replace(organ, color="#010203", aliases=()) for organ in AMOS22.classes)
    preprocess(source, out, settings=replace(SMALL, labels=LabelSet("amos22", classes)), workers=1)
    before = Store.open(out)
    again = preprocess(source, out, settings=SMALL, workers=1)
    assert (again.made, again.kept, len(again.records)) == (0, 3, 3)
    assert Store.open(out).digest == before.digest
    assert Store.open(out).labels == AMOS22


def test_a_body_that_comes_with_the_labels_is_kept_as_it_is(small_amos, small_case, write_nifti, tmp_path):
    source = small_amos(2, 1)
    case = small_case(1)
    case.labels[case.labels == 0] = (
        np.where(np.arange(24)[:, None] > 12, 16, 0).repeat(6, 1)[None].repeat(32, 0)[case.labels == 0]
    )
    write_nifti(source / "labelsTr" / "amos_0001.nii.gz", case.labels, case.affine)
    preprocess(source, tmp_path / "out", settings=Settings(size=32), workers=1)
    given, found = Store.open(tmp_path / "out").subjects("train")
    np.testing.assert_array_equal(given.mask(), to_slices(case.labels, 32, "labels"))
    assert 16 in found.voxels


def test_a_broken_subject_is_named_leaves_nothing_and_does_not_stop_the_others(small_amos, tmp_path):
    source, out = small_amos(3, 1), tmp_path / "out"
    preprocess(source, out, settings=SMALL, workers=1)
    (source / "labelsTr" / "amos_0001.nii.gz").unlink()
    bad = source / "imagesTr" / "amos_0003.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-30])
    with pytest.raises(BrokenSubjectsError) as error:
        preprocess(source, out, settings=SMALL, workers=1)
    assert error.value.exit_code == 1
    assert error.value.message.startswith("2 of 4 subjects could not be made")
    assert "amos_0001.nii.gz: no label volume for" in error.value.message
    assert "amos_0003.nii.gz: the gzip file is cut off" in error.value.message
    assert sorted(path.name for path in out.rglob("amos_*")) == ["amos_0002", "amos_0101"]
    assert list(Store.open(out).subjects_by_name) == ["amos_0002", "amos_0101"]


@pytest.mark.parametrize(("folder", "split"), [("Tr", "train"), ("Va", "test")])
def test_an_image_that_two_subjects_have_stops_before_anything_is_written(small_amos, tmp_path, folder, split):
    source = small_amos(2, 1)
    for kind in ("images", "labels"):
        first = source / f"{kind}Tr" / "amos_0001.nii.gz"
        shutil.copy(first, source / f"{kind}{folder}" / "amos_0300.nii.gz")
    (source / "imagesTr" / "amos_0004.nii.gz").touch()  # nothing at all is no image that two could share
    (source / "imagesTr" / "amos_0005.nii.gz").touch()
    said = rf"amos_0001 \(train\) and amos_0300 \({split}\) have the same image"
    with pytest.raises(DataError, match=said):
        preprocess(source, tmp_path / "out", settings=SMALL, workers=1, shard=(2, 2))
    assert not (tmp_path / "out").exists()


def test_a_copy_that_was_packed_again_is_found_by_its_slices(small_amos, tmp_path):
    source = small_amos(2, 1)
    for kind in ("images", "labels"):
        copy = nib.load(source / f"{kind}Tr" / "amos_0001.nii.gz")
        nib.save(copy, source / f"{kind}Va" / "amos_0300.nii")
    with pytest.raises(DataError, match=r"amos_0001 \(train\) and amos_0300 \(test\) have the same image"):
        preprocess(source, tmp_path / "out", settings=SMALL, workers=1)
    with pytest.raises(DataError, match="have the same image"):
        Store.open(tmp_path / "out")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "subject amos_0002: not enough memory"),
        (OSError(5, "Input/output error"), "subject amos_0002: Input/output error"),
        (ZeroDivisionError("x"), "subject amos_0002: this is a bug in ctsynth"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["read_pair", "to_slices", "is_whole"])
def test_no_error_of_one_subject_stops_the_others(where, error, said, small_amos, tmp_path, monkeypatch):
    source, out = small_amos(3, 1), tmp_path / "out"
    if where == "is_whole":
        preprocess(source, out, settings=SMALL, workers=1)
    done, calls = getattr(module, where), []

    def broken(*words, **more):
        calls.append(words)
        if len(calls) == (3 if where == "to_slices" else 2):
            raise error
        return done(*words, **more)

    monkeypatch.setattr(module, where, broken)
    with pytest.raises(BrokenSubjectsError) as refused:
        preprocess(source, out, settings=SMALL, workers=1)
    assert said in refused.value.message
    assert sorted(Store.open(out).subjects_by_name) == ["amos_0001", "amos_0003", "amos_0101"]
    monkeypatch.undo()
    preprocess(source, out, settings=SMALL, workers=1)
    assert len(Store.open(out).subjects_by_name) == 4


@pytest.mark.parametrize("change", ["no source", "twice"])
def test_an_unusable_source_is_refused_before_anything_is_written(change, small_amos, tmp_path):
    source = small_amos(1, 1)
    if change == "no source":
        source = tmp_path / "nothing here"
    else:
        for kind in ("images", "labels"):
            shutil.copy(source / f"{kind}Tr" / "amos_0001.nii.gz", source / f"{kind}Va")
    with pytest.raises(DataError):
        preprocess(source, tmp_path / "out", settings=SMALL, workers=1)
    assert not (tmp_path / "out").exists()


def test_the_source_itself_is_no_place_for_the_store(small_amos):
    source = small_amos(1, 1)
    with pytest.raises(UsageError, match="an input"):
        preprocess(source, source, settings=SMALL, workers=1)


def test_a_folder_that_cannot_be_made_is_named(small_amos, tmp_path):
    source = small_amos(1, 1)
    (tmp_path / "file").touch()  # permissions do not stop root
    with pytest.raises(RunError, match=r"file/out.*: cannot"):
        preprocess(source, tmp_path / "file" / "out", settings=SMALL, workers=1)
    assert (tmp_path / "file").read_bytes() == b""


LIMITED = """
import resource, signal, sys
from pathlib import Path
from ctsynth.data.preprocess import preprocess
from ctsynth.data.settings import Settings
from ctsynth.errors import RunError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    preprocess(Path(sys.argv[1]), Path(sys.argv[2]), settings=Settings(size=64), workers=1)
except RunError as error:
    sys.exit(f"{error.message}|{error.hint}")
"""


def test_a_disk_that_is_full_stops_the_run_and_leaves_nothing_half_written(small_amos, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    run = subprocess.run([sys.executable, "-c", LIMITED, source, out], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "train/amos_0001: cannot write it: " in run.stderr
    assert "Traceback" not in run.stderr
    assert [path for path in out.rglob("*") if path.is_file()] == []
    assert preprocess(source, out, settings=Settings(size=64), workers=1).made == 3


WHOLE = """
import resource, sys
from pathlib import Path
from ctsynth.data.preprocess import preprocess
from ctsynth.data.settings import Settings
preprocess(Path(sys.argv[1]), Path(sys.argv[2]), settings=Settings(), workers=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_a_volume_of_768_x_768_x_300_takes_less_than_3_gb(dtype, tmp_path):
    x, y = np.meshgrid(*[np.arange(768) - 383.5] * 2, indexing="ij")
    inside = (x / 300) ** 2 + (y / 210) ** 2 <= 1
    lung = ((np.abs(x) - 140) / 90) ** 2 + (y / 120) ** 2 <= 1
    plane = np.select([lung, inside], [-850, 40], -1000)
    hu = np.empty((768, 768, 300), dtype, order="F")
    rng = np.random.default_rng(0)
    for z in range(300):
        hu[:, :, z] = plane + rng.integers(-12, 13, plane.shape)
    labels = np.zeros(hu.shape, np.uint8, order="F")
    labels[300:400, 350:420, 100:200] = 6
    affine = np.diag([0.6, 0.6, 1.5, 1])
    for folder, voxels in (("imagesTr", hu), ("labelsTr", labels)):
        (tmp_path / folder).mkdir()
        image = nib.Nifti1Image(voxels, affine)
        nib.openers.Opener.default_compresslevel = 1
        nib.save(image, tmp_path / folder / "amos_0001.nii.gz")
    del hu, labels, image, voxels
    run = subprocess.run([sys.executable, "-c", WHOLE, tmp_path, tmp_path / "out"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 3.0
    (subject,) = Store.open(tmp_path / "out").subjects("train")
    assert subject.voxels[AMOS22.body_id] > 300 * 256 * 256 * 0.3


def nnunet(tmp_path, small_case, write_nifti, labels, *, numbers=((6, 1), (1, 2)), lesion=0):
    """An nnU-Net raw folder of two subjects: AMOS22's organs under other numbers, part of the liver under 3."""
    root = tmp_path / "Dataset042_Liver"
    for n in (1, 2):
        case = small_case(n)
        voxels = np.zeros_like(case.labels)
        for ours, theirs in numbers:
            voxels[case.labels == ours] = theirs
        voxels[tuple(axis[:lesion] for axis in np.nonzero(case.labels == 6))] = 3
        write_nifti(root / "imagesTr" / f"case_{n:03}_0000.nii.gz", case.hu, case.affine)
        write_nifti(root / "labelsTr" / f"case_{n:03}.nii.gz", voxels, case.affine)
    if labels is not None:
        (root / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "CT"}}))
    return root


def voxels_by_name(out):
    """Of each subject of a store, the voxels of each class by name."""
    store = Store.open(out)
    names = store.labels.names
    return [{names[n]: count for n, count in one.voxels.items() if n} for one in store.subjects("train")]


PERMUTED = {"background": 0, "Liver": 1, "spleen": 2}
NATIVE = Settings(size=32)
"""At the small cases' own size: no voxel is lost between."""


def test_a_dataset_json_with_other_numbers_is_remapped_by_name(tmp_path, small_case, write_nifti):
    source = nnunet(tmp_path, small_case, write_nifti, PERMUTED)
    preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    for n, found in enumerate(voxels_by_name(tmp_path / "out"), start=1):
        labels = small_case(n).labels
        assert found["liver"] == (labels == 6).sum()
        assert found["spleen"] == (labels == 1).sum()
        assert set(found) == {"liver", "spleen", "body"}
    (first, _) = Store.open(tmp_path / "out").subjects("train")
    mask = from_slices(first.mask(), first.geometry, "labels")
    np.testing.assert_array_equal(np.where(mask == 16, 0, mask), small_case(1).labels)
    assert first.record["label_names"] == {"Liver": 1, "spleen": 2}


def test_without_a_dataset_json_the_numbers_are_the_sets_own(tmp_path, small_case, write_nifti):
    source = nnunet(tmp_path, small_case, write_nifti, None, numbers=((6, 6), (1, 1)))
    preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    as_amos = {"0": "background"} | {
        str(n): (organ.aliases or (organ.name,))[0] for n, organ in AMOS22_BY_ID.items()
    }
    (source / "dataset.json").write_text(json.dumps({"labels": as_amos}))
    again = preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    assert (again.made, again.kept) == (0, 2)  # AMOS22's own numbers change nothing


AMOS22_BY_ID = {organ.id: organ for organ in AMOS22.classes}


def test_amos22s_own_spellings_pass_for_another_set_too(small_amos, small_case, tmp_path):
    source = small_amos(1, 0)
    names = {
        "0": "background",
        "1": "spleen",
        "2": "right kidney",
        "6": "liver",
        "8": "arota",
        "15": "prostate/uterus",
    }
    (source / "dataset.json").write_text(json.dumps({"labels": names}))
    total = label_set("totalsegmentator")
    preprocess(source, tmp_path / "out", settings=Settings(size=32, labels=total), workers=1)
    labels = small_case(1).labels
    (found,) = voxels_by_name(tmp_path / "out")
    assert (found["liver"], found["spleen"]) == ((labels == 6).sum(), (labels == 1).sum())
    assert set(found) == {"liver", "spleen", "body"}


def test_a_dataset_json_that_changed_makes_its_subjects_again(tmp_path, small_case, write_nifti):
    source = nnunet(tmp_path, small_case, write_nifti, PERMUTED)
    preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    for labels in ({"background": 0, "spleen": 1, "liver": 2}, None):
        if labels is None:
            (source / "dataset.json").unlink()
        else:
            (source / "dataset.json").write_text(json.dumps({"labels": labels}))
        assert preprocess(source, tmp_path / "out", settings=NATIVE, workers=1).made == 2
    assert set(voxels_by_name(tmp_path / "out")[0]) == {"spleen", "kidney_right", "body"}  # numbers 1 and 2


def test_a_class_that_the_set_does_not_have_is_refused_with_both_lists(tmp_path, small_case, write_nifti):
    source = nnunet(tmp_path, small_case, write_nifti, PERMUTED | {"tumor": 3}, lesion=40)
    with pytest.raises(DataError, match=r"dataset\.json: amos22 has no class for tumor\n") as refused:
        preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    assert "1 Liver, 2 spleen, 3 tumor" in refused.value.message
    assert "amos22: spleen, kidney_right" in refused.value.message
    assert "`label_set` dataset" in refused.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("unmatched", "part"), [("body", True), ("background", False)])
def test_unmatched_labels_become_what_the_option_says(unmatched, part, tmp_path, small_case, write_nifti, caplog):
    source = nnunet(tmp_path, small_case, write_nifti, PERMUTED | {"tumor": 3}, lesion=40)
    settings = Settings(size=32, unmatched=unmatched)
    summary = preprocess(source, tmp_path / "out", settings=settings, workers=1)
    assert summary.unmatched() == {"tumor": 80}
    assert f"amos22 has no class for tumor (80 voxels), of 2 subjects: now {unmatched}" in caplog.text
    whole = nnunet(tmp_path / "whole", small_case, write_nifti, PERMUTED)
    preprocess(whole, tmp_path / "expected", settings=NATIVE, workers=1)
    for found, expected in zip(
        voxels_by_name(tmp_path / "out"), voxels_by_name(tmp_path / "expected"), strict=True
    ):
        assert found["liver"] == expected["liver"] - 40
        assert found["body"] == expected["body"] + 40 * part


def test_the_set_of_a_dataset_json_keeps_all_its_classes(tmp_path, small_case, write_nifti):
    source = nnunet(tmp_path, small_case, write_nifti, PERMUTED | {"tumor": 3}, lesion=40)
    own = dataset_label_set(source / "dataset.json")
    preprocess(source, tmp_path / "out", settings=Settings(size=32, labels=own), workers=1)
    labels = small_case(1).labels
    found = voxels_by_name(tmp_path / "out")[0]
    assert (found["Liver"], found["tumor"], found["spleen"]) == ((labels == 6).sum() - 40, 40, (labels == 1).sum())
    assert Store.open(tmp_path / "out").labels == own
    assert own.body_id == 4


def test_names_in_a_label_volume_go_before_the_dataset_json(tmp_path, small_case, write_nifti):
    source = nnunet(tmp_path, small_case, write_nifti, PERMUTED | {"tumor": 3}, lesion=1)
    for path in (source / "labelsTr").iterdir():
        write_names(path, {1: "spleen", 2: "liver", 3: "cyst"})
    (source / "dataset.json").write_text(json.dumps({"labels": PERMUTED}))
    preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    (first, _) = Store.open(tmp_path / "out").subjects("train")
    assert voxels_by_name(tmp_path / "out")[0]["spleen"] == (small_case(1).labels == 6).sum() - 1
    assert first.record["unmatched"] == {"cyst": 1}


def test_a_subject_that_loses_an_organ_is_broken_and_the_others_are_made(tmp_path, small_case, write_nifti):
    source = nnunet(tmp_path, small_case, write_nifti, None, numbers=((6, 6), (1, 1)), lesion=40)
    path = source / "labelsTr" / "case_001.nii.gz"
    write_names(path, {1: "spleen", 3: "tumor", 6: "liver"})
    with pytest.raises(BrokenSubjectsError, match=r"case_001.*has no class for tumor \(40 voxels\)") as error:
        preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    assert "`unmatched` body" in error.value.hint
    assert list(Store.open(tmp_path / "out").subjects_by_name) == ["case_002"]
    said = Settings(size=32, unmatched="body")  # goes on with the store that is there
    assert preprocess(source, tmp_path / "out", settings=said, workers=1).kept == 1


def test_one_stray_voxel_of_the_body_label_does_not_turn_body_finding_off(
    small_amos, small_case, write_nifti, tmp_path, caplog
):
    source = small_amos(2, 0)
    preprocess(source, tmp_path / "expected", settings=NATIVE, workers=1)
    case = small_case(1)
    case.labels[2, 12, 3] = 16
    write_nifti(source / "labelsTr" / "amos_0001.nii.gz", case.labels, case.affine)
    preprocess(source, tmp_path / "out", settings=NATIVE, workers=1)
    masks = [Store.open(tmp_path / out).subjects("train")[0].mask() for out in ("out", "expected")]
    np.testing.assert_array_equal(*masks)
    assert "label 16, body, covers less than 25 % of the patient" in caplog.text
    assert "amos_0001 (1 voxel)" in caplog.text
