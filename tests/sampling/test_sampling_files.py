"""``sample`` writes over nothing that it reads, and over nothing but what its own records say that it drew."""

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
from small_cases import make_small_case
from small_runs import CPU, ctsynth, fit, labels_like
from small_stores import both_splits

from ctsynth.data.record import DIGEST
from ctsynth.data.volume import Volume
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import RunError, UsageError
from ctsynth.sampling.batches import SamplingConfig
from ctsynth.sampling.cases import cases_of_masks, cases_of_store
from ctsynth.sampling.settings import MaskSettings
from ctsynth.sampling.volumes import sample
from ctsynth.stop import Stop
from ctsynth.training import checkpoint

STEPS = Sampler(steps=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return both_splits(tmp_path_factory.mktemp("store") / "out", make_small_case)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    run = fit(store, tmp_path_factory.mktemp("runs") / "run", iterations=1, options={"prediction": "v"})
    return checkpoint.load(checkpoint.find(run), CPU)


@pytest.fixture
def mask(tmp_path, small_case, write_nifti):
    case = small_case(3)
    return write_nifti(tmp_path / "seg.nii.gz", labels_like(case), case.affine)


@pytest.fixture
def theirs(tmp_path, small_case, write_nifti):
    """A CT of the user's."""
    case = small_case(3)
    return write_nifti(tmp_path / "theirs.nii.gz", case.hu, case.affine)


def drawn(trained, mask, out=None, *, overwrite=False, body_from=None, labels=None, **how):
    cases = cases_of_masks(mask, trained, out, MaskSettings(labels=labels, body_from=body_from))
    return list(sample(trained, cases, SamplingConfig(sampler=STEPS, **how), stop=Stop(), overwrite=overwrite))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def itself(path):
    return path


def by_a_link(path):
    link = path.with_name("link.nii.gz")
    link.symlink_to(path)
    return link


def by_a_hard_link(path):
    link = path.with_name("link.nii.gz")
    os.link(path, link)
    return link


def by_another_path(path):
    (path.parent / "sub").mkdir()
    return path.parent / "sub" / ".." / path.name


ALIASES = [itself, by_a_link, by_a_hard_link, by_another_path]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.__name__)
@pytest.mark.parametrize("which", ["mask", "body_from"])
def test_an_input_is_never_written_over(trained, tmp_path, mask, theirs, which, alias, overwrite):
    out = alias(mask if which == "mask" else theirs)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=f"{out.name}: this is an input"):
        drawn(trained, mask, out, body_from=theirs, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_synthetic_volume_may_be_an_input(trained, mask):
    """A body may be taken from a synthetic CT, whose record says that it is ours."""
    (path,) = drawn(trained, mask)
    before = contents(mask.parent)
    with pytest.raises(UsageError, match=r"seg_synthetic\.nii\.gz: this is an input"):
        drawn(trained, mask, body_from=path, overwrite=True)
    assert contents(mask.parent) == before


def test_a_label_set_is_not_overwritten_by_a_record(trained, mask, tmp_path):
    labels = tmp_path / "mine.json"
    labels.write_text(json.dumps(trained.labels.as_json()))
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"mine\.json: this is an input"):
            drawn(trained, mask, tmp_path / "mine.nii.gz", labels=str(labels), overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("beside", [None, {"RepetitionTime": 2}, [], "{"], ids=str)
def test_a_users_volume_is_not_overwritten(trained, mask, theirs, beside, overwrite):
    if beside is not None:  # BIDS has such files
        theirs.with_name("theirs.json").write_text(beside if beside == "{" else json.dumps(beside))
    before = contents(mask.parent)
    with pytest.raises(UsageError, match=r"theirs\.nii\.gz: not overwritten: the record theirs\.json"):
        drawn(trained, mask, theirs, overwrite=overwrite)
    assert contents(mask.parent) == before


def test_a_users_json_file_is_not_overwritten(trained, mask):
    mask.with_name("seg_synthetic.json").write_text('{"synthetic": false}')
    before = contents(mask.parent)
    with pytest.raises(UsageError, match=r"seg_synthetic\.json: not overwritten"):
        drawn(trained, mask, overwrite=True)
    assert contents(mask.parent) == before


def test_nothing_is_drawn_if_one_of_many_would_be_written_over(trained, tmp_path, mask):
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in "abc":
        shutil.copy(mask, folder / f"{name}.nii.gz")
    (folder / "c_synthetic.nii.gz").write_bytes(b"three years of work")
    before = contents(folder)
    with pytest.raises(UsageError, match=r"c_synthetic\.nii\.gz: not overwritten"):
        drawn(trained, folder)
    assert contents(folder) == before


def test_real_volumes_are_not_overwritten_by_a_stores_synthetic_ones(trained, store, tmp_path, theirs):
    theirs.rename(tmp_path / "subject_t.nii.gz")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"subject_t\.nii\.gz: not overwritten"):
        list(
            sample(
                trained,
                cases_of_store(store, "test", trained, tmp_path),
                SamplingConfig(sampler=STEPS),
                stop=Stop(),
            )
        )
    assert contents(tmp_path) == before


def test_a_record_of_another_volume_is_not_accepted(trained, mask, theirs):
    """A copied record, beside a volume whose own header does not say that it is synthetic."""
    (path,) = drawn(trained, mask)
    shutil.copy(path.with_name("seg_synthetic.json"), theirs.with_name("theirs.json"))
    before = contents(mask.parent)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"theirs\.nii\.gz: not overwritten"):
            drawn(trained, mask, theirs, overwrite=overwrite)
    assert contents(mask.parent) == before


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_a_volume_that_was_changed_is_kept_without_overwrite(trained, mask, suffix):
    (path,) = drawn(trained, mask, mask.with_name(f"out{suffix}"))
    whole = path.read_bytes()
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.int16(1), None, image.header), path)
    before = contents(mask.parent)
    with pytest.raises(UsageError, match=rf"out{suffix}: changed since it was drawn"):
        drawn(trained, mask, path)
    assert contents(mask.parent) == before
    drawn(trained, mask, path, overwrite=True)
    assert path.read_bytes() == whole


DAMAGES = {
    "half of it": lambda content: content[: len(content) // 2],
    "its last byte missing": lambda content: content[:-1],
    "empty": lambda content: b"",
    "a bit flipped": lambda content: content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4])
    + content[len(content) // 2 + 1 :],
    "another beginning": lambda content: b"x" * 100 + content[100:],
}  # fmt: skip


BY_FILE = [(suffix, damage) for suffix in (".nii.gz", ".nii") for damage in DAMAGES]
BY_FILE.remove((".nii", "a bit flipped"))  # it has no checksum of its own: it may have been changed by hand


@pytest.mark.parametrize(("suffix", "damage"), BY_FILE)
@pytest.mark.parametrize("is_early", [False, True])
def test_a_damaged_volume_is_reported_and_drawn_again(trained, mask, tmp_path, caplog, suffix, damage, is_early):
    (path,) = drawn(trained, mask, tmp_path / f"out{suffix}")
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    if is_early:
        forget_hash(path)
    drawn(trained, mask, path)
    assert path.read_bytes() == whole
    assert f"out{suffix} is damaged or was not finished: drawn again" in caplog.text


def forget_hash(volume):
    record = volume.with_name("out.json")
    content = json.loads(record.read_text())
    content.pop(DIGEST, None)
    record.write_text(json.dumps(content))


def test_a_complete_volume_whose_record_has_no_hash_is_skipped(trained, mask, tmp_path):
    (path,) = drawn(trained, mask, tmp_path / "out.nii.gz")
    forget_hash(path)
    before = path.stat().st_mtime_ns
    assert drawn(trained, mask, path) == [path]
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="seed 0, not 1"):
        drawn(trained, mask, path, seed=1)


def test_a_record_without_its_volume_is_drawn_again(trained, mask):
    (path,) = drawn(trained, mask)
    whole = path.read_bytes()
    path.unlink()
    drawn(trained, mask)
    assert path.read_bytes() == whole


def test_another_mask_of_the_same_name_is_another_volume(trained, mask, tmp_path, small_case, write_nifti):
    drawn(trained, mask, tmp_path / "drawn")
    case = small_case(4)
    other = write_nifti(tmp_path / "more" / "seg.nii.gz", labels_like(case), case.affine)
    before = contents(tmp_path / "drawn")
    with pytest.raises(UsageError, match=rf"drawn with mask {mask}, not {other}"):
        drawn(trained, other, tmp_path / "drawn")
    assert contents(tmp_path / "drawn") == before
    shutil.copy(mask, other)  # the same mask elsewhere
    drawn(trained, other, tmp_path / "drawn")
    assert contents(tmp_path / "drawn") == before


def test_another_model_draws_another_volume(store, trained, mask, tmp_path):
    (path,) = drawn(trained, mask)
    before = path.read_bytes()
    run = fit(store, tmp_path / "run", iterations=2, options={"prediction": "v"})
    with pytest.raises(
        UsageError, match=r"drawn with iterations 1, not 2; weights_sha256 [0-9a-f]{12}, not [0-9a-f]{12}$"
    ):
        drawn(checkpoint.load(checkpoint.find(run), CPU), mask)
    assert path.read_bytes() == before


def test_a_body_from_another_ct_is_another_volume(trained, small_case, write_nifti, tmp_path, theirs):
    case = small_case(3)
    organs = write_nifti(tmp_path / "organs.nii.gz", case.labels, case.affine)
    drawn(trained, organs)
    with pytest.raises(UsageError, match=r"drawn with body-from none, not [0-9a-f]{12}"):
        drawn(trained, organs, body_from=theirs)


def test_a_full_disk_leaves_no_record_without_a_volume(trained, mask, monkeypatch):
    def full(self, path, *words):
        raise RunError(f"{path}: cannot write it: No space left on device")

    before = contents(mask.parent)
    with monkeypatch.context() as patch:
        patch.setattr("ctsynth.data.volume.Volume.save", full)
        with pytest.raises(RunError, match="No space left"):
            drawn(trained, mask)
    assert contents(mask.parent) == before
    drawn(trained, mask)


def test_an_interrupted_overwrite_resumes_without_overwrite(trained, tmp_path, mask, monkeypatch):
    folder, whole = tmp_path / "masks", tmp_path / "whole"
    folder.mkdir()
    for name in "abc":
        shutil.copy(mask, folder / f"{name}.nii.gz")
    drawn(trained, folder, tmp_path / "drawn")
    drawn(trained, folder, whole, seed=1)
    real, left = Volume.save, 1

    def killed(self, *words):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        real(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr("ctsynth.data.volume.Volume.save", killed)
        with pytest.raises(KeyboardInterrupt):
            drawn(trained, folder, tmp_path / "drawn", seed=1, overwrite=True)
    for path in drawn(trained, folder, tmp_path / "drawn", seed=1):
        assert path.read_bytes() == (whole / path.name).read_bytes()


def test_the_command_exits_with_2_and_says_what_to_do(trained, mask, tmp_path):
    words = ["sample", "--mask", mask, "--model", trained.path, "--device", "cpu", "--sampler", "dpm++"]
    assert ctsynth(*words, "--steps", 1).exit_code == 0
    before = contents(tmp_path)
    for more, told in [
        (["--steps", 2], "seg_synthetic.nii.gz: drawn with steps 1, not 2"),
        (["--steps", 1, "--out", mask], "seg.nii.gz: this is an input"),
        (["--steps", 1, "--out", mask, "--overwrite"], "seg.nii.gz: this is an input"),
    ]:
        done = ctsynth(*words, *more)
        assert (done.exit_code, done.stdout) == (2, "")
        assert told in done.stderr
        assert "hint: " in done.stderr
    assert contents(tmp_path) == before
    assert ctsynth(*words, "--steps", 2, "--overwrite").exit_code == 0
