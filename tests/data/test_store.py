import json
import resource

import numpy as np
import pytest

from ctsynth.data.manifest import read_subject
from ctsynth.data.slices import to_slices
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.labels import AMOS22

SETTINGS = {"size": 16, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json(), "split": {"test_subjects": 50}}


def put(root, small_case, name="amos_0001", split="train", settings=SETTINGS):
    case = small_case(int.from_bytes(name.encode()[-4:], "big"))
    record = {"name": name, "split": split, "geometry": Geometry(case.hu.shape, case.affine).as_json()}
    ct = to_slices(np.clip(case.hu, -160, 240), 16, "ct")
    mask = to_slices(case.labels, 16, "labels")
    write_subject(root, record, settings, ct, mask)
    return ct, mask


@pytest.fixture
def full_disk():
    """No file may grow beyond 2 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_subject_that_does_not_fit_on_the_disk_says_so_and_leaves_nothing(tmp_path, small_case, full_disk):
    with pytest.raises(RunError, match=r"amos_0001: cannot write it: File too large$"):
        put(tmp_path, small_case)
    assert list((tmp_path / "train").iterdir()) == []


def test_the_arrays_are_those_of_numpys_own_save(tmp_path, small_case):
    for name, array in zip(("ct", "mask"), put(tmp_path, small_case), strict=True):
        np.save(tmp_path / "numpys.npy", array)
        written = tmp_path / "train" / "amos_0001" / f"{name}.npy"
        assert written.read_bytes() == (tmp_path / "numpys.npy").read_bytes()


def test_arrays_are_read_back_through_memory_maps_that_stay_open(tmp_path, small_case):
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
    assert not subject.ct().flags.writeable
    assert subject.slices == 6
    assert subject.voxels == {number: int((mask == number).sum()) for number in (0, 1, 6)}


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


@pytest.mark.parametrize("key", ["image_sha256", "ct_sha256"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_two_subjects_with_one_image_are_refused(tmp_path, small_case, key, split):
    put(tmp_path, small_case, "amos_0001")
    put(tmp_path, small_case, "amos_0002", split)
    write_manifest(tmp_path, SETTINGS, {("train", "amos_0001"), (split, "amos_0002")})
    Store.open(tmp_path)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    for record in content["subjects"]:
        record[key] = "a" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"amos_0001 \(train\) and amos_0002 \({split}\) have the same image"):
        Store.open(tmp_path)


def test_the_manifest_holds_complete_subjects_of_these_settings_only(tmp_path, small_case):
    put(tmp_path, small_case, "whole")
    put(tmp_path, small_case, "stranger")
    put(tmp_path, small_case, "old", settings=SETTINGS | {"size": 32})
    put(tmp_path, small_case, "torn")
    (tmp_path / "train" / "torn" / "subject.json").write_text("{")
    write_manifest(tmp_path, SETTINGS, {("train", name) for name in ("whole", "old", "torn", "not yet")})
    assert [subject.name for subject in Store.open(tmp_path).subjects("train")] == ["whole"]


def test_leftovers_of_a_killed_run_are_removed_when_the_subject_is_written_again(tmp_path, small_case):
    for name in (".partial-77-amos_0001", ".partial-77-x-amos_0001"):
        (tmp_path / "train" / name).mkdir(parents=True)
    put(tmp_path, small_case)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [".partial-77-x-amos_0001", "amos_0001"]


def test_a_folder_without_a_store_is_an_error_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.json") as error:
        Store.open(tmp_path)
    assert "ctsynth preprocess" in error.value.hint


DELETE = "(delete it)"


def edited(content, path, value):
    """Parsed JSON with another value at ``a.0.b``, or without it."""
    *way, last = path.split(".")
    place = content
    for key in way:
        place = place[int(key) if isinstance(place, list) else key]
    if value is DELETE:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return content


SUBJECT = "subjects.0"
BROKEN = [
    ("schema", 99, "schema 99, this version reads 1"),
    ("settings", DELETE, "settings is missing"),
    ("settings", None, "settings is None, wanted an object"),
    ("settings.size", 16.5, "settings.size is 16.5, wanted a whole number within [8, 4,096]"),
    ("settings.size", 10**9, "settings.size is 1000000000"),
    ("settings.width", 0, "window level 40 width 0"),
    ("settings.level", "40", "settings.level is '40', wanted a finite number"),
    ("settings.labels", {"name": "x", "classes": [None]}, "manifest.json: "),
    ("subjects", {}, "subjects is {}, wanted a list"),
    ("subjects", [None], "subjects[0] is None, wanted an object"),
    (f"{SUBJECT}.name", 3, "subjects[0].name is 3, wanted a string"),
    (f"{SUBJECT}.split", "validation", "subjects[0].split is 'validation', wanted one of train, test"),
    (f"{SUBJECT}.slices", 5, "subjects[0].slices is 5, and its geometry has 6"),
    (f"{SUBJECT}.voxels", {"liver": 1}, "subjects[0].voxels has the key 'liver', wanted a label"),
    (f"{SUBJECT}.voxels", {"17": 1}, "subjects[0].voxels has the key '17', wanted a label from 0 to 16"),
    (f"{SUBJECT}.voxels", {"1": "many"}, "subjects[0].voxels.1 is 'many', wanted a whole number"),
    (f"{SUBJECT}.ct_sha256", DELETE, "subjects[0].ct_sha256 is missing"),
    (f"{SUBJECT}.geometry", [], "subjects[0].geometry is [], wanted an object"),
    (f"{SUBJECT}.geometry.shape", [32, 24], "subjects[0].geometry.shape is [32, 24], wanted a list of 3"),
    (f"{SUBJECT}.geometry.shape", [32, 24, 0], "subjects[0].geometry.shape[2] is 0"),
    (f"{SUBJECT}.geometry.affine.1", [0, 1, None, 0], "geometry.affine[1][2] is None, wanted a finite number"),
    (f"{SUBJECT}.geometry.affine.2", [0, 0, 0, 1], "subjects[0].geometry: its affine does not give three axes"),
    (f"{SUBJECT}.geometry.source", [], "subjects[0].geometry.source is [], wanted an object"),
]


@pytest.mark.parametrize(("path", "value", "said"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_manifest_that_is_wrong_in_a_field_is_refused_by_its_name(path, value, said, tmp_path, small_case):
    put(tmp_path, small_case)
    write_manifest(tmp_path, SETTINGS, {("train", "amos_0001")})
    manifest = tmp_path / "manifest.json"
    Store.open(tmp_path)
    manifest.write_text(json.dumps(edited(json.loads(manifest.read_text()), path, value)))
    with pytest.raises(DataError) as refused:
        Store.open(tmp_path)
    assert refused.value.message.startswith(f"{manifest}: ")
    assert said in refused.value.message


OTHER_FORMS = ["[]", "null", "3", "[" * 100_000, '{"schema": 1}', "", "\0", '{"schema": NaN}']


@pytest.mark.parametrize("content", OTHER_FORMS, ids=lambda content: content[:9])
def test_a_manifest_of_another_form_is_refused(content, tmp_path):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest\.json: "):
        Store.open(tmp_path)


def test_a_duplicate_subject_is_refused(tmp_path, small_case):
    put(tmp_path, small_case)
    (record,) = write_manifest(tmp_path, SETTINGS, {("train", "amos_0001")})
    content = {"schema": 1, "settings": SETTINGS, "subjects": [record, record | {"split": "test"}]}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="'amos_0001' is there twice"):
        Store.open(tmp_path)


@pytest.mark.parametrize("content", [*OTHER_FORMS, '{"schema": 1, "settings": {}, "subject": []}'])
def test_a_malformed_subject_json_makes_the_subject_incomplete(content, tmp_path, small_case):
    put(tmp_path, small_case)
    (tmp_path / "train" / "amos_0001" / "subject.json").write_text(content)
    assert read_subject(tmp_path, "train", "amos_0001") is None


def test_an_unknown_split_is_refused(tmp_path, small_case):
    put(tmp_path, small_case)
    write_manifest(tmp_path, SETTINGS, {("train", "amos_0001")})
    with pytest.raises(UsageError, match="tset"):
        Store.open(tmp_path).subjects("tset")
