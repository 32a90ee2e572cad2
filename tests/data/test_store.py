import json
import pickle

import numpy as np
import pytest

from ctsynth.data.slices import to_slices
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.labels import AMOS22

SETTINGS = {"size": 16, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json(), "split": {"test_subjects": 50}}


def put(root, small_case, name="amos_0001", split="train", settings=SETTINGS):
    case = small_case(0)
    record = {"name": name, "split": split, "geometry": Geometry(case.hu.shape, case.affine).as_json()}
    ct = to_slices(np.clip(case.hu, -160, 240), 16, "ct")
    mask = to_slices(case.labels, 16, "labels")
    write_subject(root, record, settings, ct, mask)
    return ct, mask


def test_what_is_written_is_read_back_through_memory_maps_that_stay_open(tmp_path, small_case):
    ct, mask = put(tmp_path, small_case)
    write_manifest(tmp_path, SETTINGS, {("train", "amos_0001")})
    store = Store.open(tmp_path)
    (subject,) = store.subjects("train")
    assert store.subjects("test") == []
    assert (store.size, store.window.low, store.labels) == (16, -160, AMOS22)
    assert (subject.ct().dtype, subject.mask().dtype) == (np.int16, np.uint8)
    np.testing.assert_array_equal(subject.ct(), ct)
    np.testing.assert_array_equal(subject.mask(), mask)
    assert isinstance(subject.ct(), np.memmap)
    assert subject.ct() is subject.ct()
    assert not subject.ct().flags.writeable
    assert subject.slices == 6
    assert subject.voxels == {number: int((mask == number).sum()) for number in (0, 1, 6)}


def test_a_subject_that_is_sent_to_another_process_leaves_its_voxels_here(tmp_path, small_case):
    put(tmp_path, small_case)
    write_manifest(tmp_path, SETTINGS, {("train", "amos_0001")})
    (subject,) = Store.open(tmp_path).subjects("train")
    subject.ct()
    sent = pickle.dumps(subject)
    assert len(sent) < subject.ct().nbytes
    np.testing.assert_array_equal(pickle.loads(sent).ct(), subject.ct())


def test_subjects_come_by_name_and_the_digest_does_not_depend_on_the_place(tmp_path, small_case):
    names = ["amos_0010", "amos_0002", "amos_0001"]
    for root, order in ((tmp_path / "a", names), (tmp_path / "b", names[::-1])):
        for name in order:
            put(root, small_case, name)
        write_manifest(root, SETTINGS, {("train", name) for name in order}, source=str(root))
    store, other = Store.open(tmp_path / "a"), Store.open(tmp_path / "b")
    assert [subject.name for subject in store.subjects("train")] == sorted(names)
    assert store.digest == other.digest
    (tmp_path / "a" / "train" / "amos_0002" / "ct.npy").unlink()
    write_manifest(tmp_path / "a", SETTINGS, {("train", name) for name in names})
    assert Store.open(tmp_path / "a").digest != other.digest


def test_the_manifest_holds_whole_subjects_of_these_settings_only(tmp_path, small_case):
    put(tmp_path, small_case, "whole")
    put(tmp_path, small_case, "stranger")
    put(tmp_path, small_case, "old", settings=SETTINGS | {"size": 32})
    put(tmp_path, small_case, "torn")
    (tmp_path / "train" / "torn" / "subject.json").write_text("{")
    write_manifest(tmp_path, SETTINGS, {("train", name) for name in ("whole", "old", "torn", "not yet")})
    assert [subject.name for subject in Store.open(tmp_path).subjects("train")] == ["whole"]


def test_what_a_killed_run_left_of_a_subject_is_swept_away_with_the_next(tmp_path, small_case):
    for name in (".partial-77-amos_0001", ".partial-77-x-amos_0001"):
        (tmp_path / "train" / name).mkdir(parents=True)
    put(tmp_path, small_case)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [".partial-77-x-amos_0001", "amos_0001"]


def test_a_write_that_fails_leaves_nothing(tmp_path, small_case, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(RunError, match="train/amos_0001: cannot write it: No space left"):
        put(tmp_path, small_case)
    assert list((tmp_path / "train").iterdir()) == []


def test_a_folder_without_a_store_is_an_error_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.json") as error:
        Store.open(tmp_path)
    assert "ctsynth preprocess" in error.value.hint


@pytest.mark.parametrize("content", [{"schema": 99}, {"schema": 1, "settings": {}}, [], {"schema": 1}])
def test_a_manifest_of_another_form_is_refused(content, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json"):
        Store.open(tmp_path)


def test_an_unknown_split_is_refused(tmp_path, small_case):
    put(tmp_path, small_case)
    write_manifest(tmp_path, SETTINGS, {("train", "amos_0001")})
    with pytest.raises(UsageError, match="tset"):
        Store.open(tmp_path).subjects("tset")
