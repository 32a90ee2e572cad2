"""``preprocess`` writes over nothing of the user's, and removes nothing."""

import json
import shutil

import pytest

from ctsynth.data.preprocess import BrokenSubjectsError, preprocess
from ctsynth.data.settings import Settings, SplitRule
from ctsynth.data.store import Store
from ctsynth.errors import DataError, UsageError

SMALL = Settings(size=16)


def made(source, out, settings=SMALL, **more):
    return preprocess(source, out, settings=settings, workers=1, **more)


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def notes(folder):
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("three years of work")


def arrays_of_ones_own(folder):
    folder.mkdir(parents=True)
    for name in ("ct.npy", "mask.npy"):
        (folder / name).write_bytes(b"three years of work")


def a_record_of_another(folder):
    arrays_of_ones_own(folder)
    record = {"schema": 1, "settings": {}, "subject": {"split": "train", "name": "amos_0099"}}
    (folder / "subject.json").write_text(json.dumps(record))


def a_file(folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("three years of work")


def a_link(folder):
    target = folder.parents[2] / "elsewhere"
    notes(target)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(target)


THEIRS = [notes, arrays_of_ones_own, a_record_of_another, a_file, a_link]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("theirs", THEIRS, ids=lambda theirs: theirs.__name__)
def test_a_users_folder_is_not_overwritten(small_amos, tmp_path, theirs, overwrite):
    source, out = small_amos(2, 1), tmp_path / "out"
    theirs(out / "train" / "amos_0001")
    before = contents(out / "train") | contents(tmp_path / "elsewhere")
    with pytest.raises(BrokenSubjectsError, match=r"train/amos_0001: there already, and not made by") as error:
        made(source, out, overwrite=overwrite)
    assert list(error.value.summary.broken) == ["amos_0001"]
    assert before.items() <= (contents(out / "train") | contents(tmp_path / "elsewhere")).items()
    assert list(Store.open(out).subjects_by_name) == ["amos_0002", "amos_0101"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_users_folder_in_either_split_is_not_removed(small_amos, tmp_path, broken):
    source, out = small_amos(2, 1), tmp_path / "out"
    notes(out / "test" / "amos_0001")
    notes(out / "train" / "amos_0101")
    if broken:
        (source / "labelsTr" / "amos_0001.nii.gz").unlink()
        with pytest.raises(BrokenSubjectsError):
            made(source, out)
    else:
        made(source, out)
    for folder in ("test/amos_0001", "train/amos_0101"):
        assert (out / folder / "notes.txt").read_text() == "three years of work"


def test_a_file_that_the_user_put_into_a_subjects_folder_stays(small_amos, small_case, write_nifti, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    made(source, out)
    (out / "train" / "amos_0002" / "notes.txt").write_text("three years of work")
    assert made(source, out).kept == 3  # nothing is to be written
    changed = small_case(77)
    write_nifti(source / "imagesTr" / "amos_0002.nii.gz", changed.hu, small_case(2).affine)
    before = contents(out / "train" / "amos_0002")
    with pytest.raises(BrokenSubjectsError, match="amos_0002: there already"):
        made(source, out)
    assert contents(out / "train" / "amos_0002") == before


def test_a_subject_without_its_record_is_known_by_the_manifest(small_amos, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    made(source, out)
    before = contents(out)
    (out / "train" / "amos_0002" / "subject.json").write_text('{"schema": 1, "sett')
    made(source, out)
    assert contents(out) == before


def test_a_subject_made_with_other_settings_is_not_overwritten(small_amos, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    made(source, out)
    (out / "manifest.json").unlink()  # as if it had been broken off before
    before = contents(out)
    with pytest.raises(BrokenSubjectsError, match="amos_0001: made with size 16, not 20"):
        made(source, out, Settings(size=20))
    assert before.items() <= contents(out).items()
    made(source, out, Settings(size=20), overwrite=True)
    assert Store.open(out).size == 20


def test_an_interrupted_overwrite_resumes_without_overwrite(small_amos, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    made(source, out)

    def killed(done, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(source, out, Settings(size=20), overwrite=True, progress=killed)
    assert (Store.open(out).size, list(Store.open(out).subjects_by_name)) == (20, [])
    summary = made(source, out, Settings(size=20))
    assert (summary.made, summary.kept) == (2, 1)
    made(source, tmp_path / "whole", Settings(size=20))
    assert [contents(out)[out / name] for name in ("manifest.json", "test/amos_0101/ct.npy")] == [
        (tmp_path / "whole" / name).read_bytes() for name in ("manifest.json", "test/amos_0101/ct.npy")
    ]


def test_the_store_of_another_source_is_not_overwritten(small_amos, tmp_path):
    source, out = small_amos(2, 1), tmp_path / "out"
    made(source, out)
    before = contents(out)
    other = tmp_path / "other"
    shutil.copytree(source, other)
    with pytest.raises(UsageError, match=rf"the store there is of {source}, not of {other}"):
        made(other, out)
    assert contents(out) == before
    made(other, out, overwrite=True)
    shutil.rmtree(other)  # that is, it was moved
    assert made(source, out).kept == 3


@pytest.mark.parametrize("content", [{"name": "mine"}, [], {"schema": 1, "settings": {}}, None])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_users_manifest_is_not_overwritten(small_amos, tmp_path, content, overwrite):
    source, out = small_amos(1, 1), tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"manifest\.json: not that of a slice store"):
        made(source, out, overwrite=overwrite)
    assert json.loads((out / "manifest.json").read_text()) == content
    (out / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: not a JSON file"):
        made(source, out, overwrite=overwrite)


def test_the_store_may_lie_in_the_source_but_not_in_a_folder_that_is_read(small_amos, tmp_path):
    source = small_amos(1, 1)
    link = tmp_path / "link"
    link.symlink_to(source)
    before = contents(source)
    for out in (source, source / "imagesTr", source / "labelsVa", link, link / "imagesTr", source / "x" / ".."):
        with pytest.raises(UsageError, match="an input"):
            made(source, out)
    assert contents(source) == before
    made(source, source / "store")
    assert before.items() <= contents(source).items()
    assert made(source, source / "store").kept == 2


def test_the_layouts_own_folders_are_no_inputs_if_others_are_named(small_amos, tmp_path):
    source = small_amos(1, 1)
    (source / "imagesTr").rename(source / "ct")
    (source / "labelsTr").rename(source / "seg")
    named = Settings(
        size=16, image_folder=source / "ct", label_folder=source / "seg", rule=SplitRule(test_fraction=0)
    )
    with pytest.raises(UsageError, match="an input"):
        made(source, source / "seg", named)
    assert made(source, source / "imagesTr", named).made == 1
