import json
import logging
import weakref

import numpy as np
import pytest
from small_stores import imitation, make_store, write_synthetic

from ctsynth.data.slices import from_slices
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError, RunError, UsageError, WriteError
from ctsynth.files import sha256
from ctsynth.metrics import base
from ctsynth.metrics.base import Metric, slice_mean
from ctsynth.scoring import measuring
from ctsynth.scoring.run import score
from ctsynth.scoring.scores import Scores


@pytest.fixture
def store(tmp_path, small_case):
    return make_store(tmp_path / "out", [small_case(seed) for seed in range(3)])


@pytest.fixture
def samples(tmp_path, store):
    return write_synthetic(tmp_path / "samples", store)


def values(scores: Scores) -> dict[str, float]:
    return {name: result.total.value for name, result in scores.metrics.items()}


def rewrite(path, change):
    """Writes a volume again with other voxels."""
    volume = Volume.load(path)
    Volume(change(volume.voxels), volume.geometry).save(path)


def test_perfect_volumes_have_perfect_scores(tmp_path, small_case, write_nifti):
    cases = [small_case(seed) for seed in range(2)]
    store = make_store(tmp_path / "out", cases)
    for number, case in enumerate(cases):
        write_nifti(tmp_path / "real" / f"subject_{number}.nii.gz", case.hu, case.affine)
    found = score(tmp_path / "real", store, "test")
    assert values(found) == pytest.approx(
        {"psnr": None, "psnr_body": None, "ssim": 1, "ssim_body": 1, "gradient": 1}
        | {"hu": 0, "hu_w1": 0, "hu_spread": 1, "z-gradient": 1, "z-gradient_same": 1, "z-gradient_changed": None}
    )


@pytest.mark.parametrize("axes", ["LPS", "SAR", "PIL"])
def test_the_orientation_of_a_volume_does_not_matter(axes, tmp_path, store, samples, write_nifti):
    turned = tmp_path / "turned"
    for path in samples.iterdir():
        volume = Volume.load(path)
        write_nifti(turned / path.name, volume.voxels, volume.geometry.affine, axes)
    assert values(score(turned, store, "test")) == pytest.approx(values(score(samples, store, "test")))


def test_a_volume_on_the_sources_own_grid_is_brought_to_the_stores_slices(
    tmp_path, store, small_case, write_nifti
):
    """Slices of 32 pixels are the padded source's own 32 voxels: nothing is lost on the way there and back."""
    for number, subject in enumerate(store.subjects("test")):
        voxels = from_slices(imitation(np.asarray(subject.ct()), seed=number), subject.geometry, "ct")
        write_nifti(tmp_path / "native" / f"{subject.name}.nii.gz", voxels, subject.geometry.affine, "LPS")
    stacked = score(write_synthetic(tmp_path / "stacked", store), store, "test")
    native = score(tmp_path / "native", store, "test")
    assert values(native) == pytest.approx(values(stacked))


def record_of(subject, **changed):
    return {"subject": subject.name, "mask_sha256": subject.record["mask_sha256"]} | changed


def records(samples, contents):
    for name, content in contents.items():
        (samples / f"{name}.json").write_text(json.dumps(content))


def test_swapped_subjects_whose_records_say_so_are_refused(store, samples):
    one, two, _ = store.subjects("test")
    records(samples, {one.name: record_of(two), two.name: record_of(one)})
    with pytest.raises(
        DataError, match=r"subject_0\.nii\.gz: .* drawn for subject 'subject_1', not 'subject_0'"
    ) as no:
        score(samples, store, "test")
    assert "remove subject_0.json" in no.value.hint
    assert not (samples / "measured").exists()
    (samples / "subject_0.json").unlink()  # a volume without a record is taken by its name
    (samples / "subject_1.json").unlink()
    score(samples, store, "test", metrics=["psnr"])


@pytest.mark.parametrize("body_from", ["", "+" + "c" * 64])
def test_a_volume_drawn_from_another_mask_is_refused(store, samples, body_from):
    one, *_ = store.subjects("test")
    for own in (one.record["mask_sha256"], one.record.setdefault("label_sha256", "e" * 64)):
        records(samples, {one.name: record_of(one, mask_sha256=own + body_from)})
        score(samples, store, "test", metrics=["psnr"])
    records(samples, {one.name: record_of(one, mask_sha256="d" * 64 + body_from)})
    with pytest.raises(DataError, match=r"subject_0\.json says that it was drawn from a mask of SHA-256 dddd"):
        score(samples, store, "test", metrics=["psnr"])


def test_a_volume_that_is_not_the_one_that_was_drawn_is_refused(store, samples):
    """Damaged in a way that can be read, or smoothed by hand: its record tells of another."""
    one, *_ = store.subjects("test")
    for digest, matches in [(sha256(samples / f"{one.name}.nii.gz"), True), ("0" * 64, False), (None, False)]:
        records(samples, {one.name: record_of(one, volume_sha256=digest)})
        if matches:
            score(samples, store, "test", metrics=["psnr"])
            continue
        with pytest.raises(DataError, match=r"subject_0\.json says that it has other bytes") as no:
            score(samples, store, "test", metrics=["psnr"])
        assert "remove subject_0.json" in no.value.hint


def test_another_grid_is_refused_with_both_named(store, samples):
    path = samples / "subject_1.nii.gz"
    volume = Volume.load(path)
    moved = volume.geometry.affine.copy()
    moved[0, 3] += 6
    Volume(volume.voxels, Geometry(volume.geometry.shape, moved)).save(path)
    with pytest.raises(
        RunError, match=r"subject_1\.nii\.gz: its grid is 32 x 32 x 6 voxels of 12 x 12 x 5 mm.*has"
    ):
        score(samples, store, "test")


@pytest.mark.parametrize(("shift", "factor"), [(160, 1 / 400), (-40, 1 / 200), (160, 255 / 400)])
def test_gray_values_given_for_hu_are_refused(shift, factor, store, samples):
    rewrite(samples / "subject_2.nii.gz", lambda hu: ((hu.astype(np.float32) + shift) * factor).astype(np.float32))
    with pytest.raises(RunError, match="cannot be HU") as error:
        score(samples, store, "test")
    assert "HU = 400 x -160" in error.value.hint


def test_what_a_model_drew_is_hu_also_where_it_shows_no_air(store, samples):
    path = samples / "subject_2.nii.gz"
    rewrite(path, lambda hu: np.full_like(hu, 40))
    with pytest.raises(RunError, match="cannot be HU"):
        score(samples, store, "test")
    path.with_name("subject_2.json").write_text(json.dumps({"volume_sha256": sha256(path)}))
    assert score(samples, store, "test").metrics["psnr"].per_subject["subject_2"] > 0


def test_nan_is_refused(store, samples):
    rewrite(samples / "subject_0.nii.gz", lambda hu: np.where(hu > 50, np.nan, hu).astype(np.float32))
    with pytest.raises(RunError, match="NaN"):
        score(samples, store, "test")


def test_missing_subjects_are_listed(store, samples):
    (samples / "subject_0.nii.gz").unlink()
    (samples / "subject_2.nii.gz").unlink()
    with pytest.raises(DataError, match=r"no volume of subject_0, subject_2 \(2 of 3 test subjects\)"):
        score(samples, store, "test")


def test_partial_scores_what_is_there_and_says_what_is_not(store, samples):
    whole = score(samples, store, "test")
    (samples / "subject_0.nii.gz").unlink()
    found = score(samples, store, "test", partial=True)
    assert found.missing == ("subject_0",)
    assert found.subjects == 2
    per_subject = {k: v for k, v in whole.metrics["ssim"].per_subject.items() if k != "subject_0"}
    assert found.metrics["ssim"].per_subject == per_subject
    for path in samples.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match="no volume"):
        score(samples, store, "test", partial=True)


def test_volumes_of_no_subject_are_named_in_a_warning(store, samples, caplog):
    (samples / "stranger.nii.gz").write_bytes((samples / "subject_0.nii.gz").read_bytes())
    with caplog.at_level(logging.WARNING, logger="ctsynth"):
        score(samples, store, "test")
    assert "stranger.nii.gz" in caplog.text


def test_two_volumes_of_one_subject_are_refused(store, samples):
    (samples / "subject_0_synthetic.nii.gz").write_bytes((samples / "subject_0.nii.gz").read_bytes())
    with pytest.raises(
        DataError, match=r"subject_0\.nii\.gz and subject_0_synthetic\.nii\.gz are both of subject_0"
    ):
        score(samples, store, "test")


def test_both_kinds_of_name_are_found_and_half_written_files_are_not(tmp_path, store, samples):
    other = write_synthetic(tmp_path / "other", store, suffix="_synthetic")
    (other / ".partial-1-subject_0.nii.gz").write_bytes(b"")
    assert values(score(other, store, "test")) == values(score(samples, store, "test"))


def test_a_single_file_is_one_subject_and_has_no_interval(store, samples):
    found = score(samples / "subject_1.nii.gz", store, "test")
    assert found.subjects == 1
    assert found.missing == ()
    assert all(result.total.low is None for result in found.metrics.values())
    both = score(samples, store, "test").metrics
    assert all(result.total.high is not None for result in both.values() if result.total.value is not None)


def test_metrics_that_cannot_be_computed_are_left_out_with_the_reason(store, samples):
    found = score(samples, store, "test", metrics=["fid", "psnr"])
    assert list(found.metrics) == ["psnr", "psnr_body"]
    assert "ctsynth weights import" in found.left_out["fid"]
    assert found.floor.values is None
    assert found.floor.reason
    with pytest.raises(UsageError, match="no metric to compute: dice: "):
        score(samples, store, "test", metrics=["dice"])
    with pytest.raises(UsageError, match="no metric is called 'nmi'"):
        score(samples, store, "test", metrics=["nmi"])


def test_provenance_keeps_what_all_volumes_agree_on(tmp_path, store, caplog):
    record = {"method": "ddpm-mask", "sampler": {"name": "dpm++", "steps": 20}, "seed": 3, "body": "label"}
    samples = write_synthetic(tmp_path / "samples", store, record=record)
    found = score(samples, store, "test")
    assert found.provenance == {key: record[key] for key in ("method", "sampler", "seed")}
    assert found.name == "ddpm-mask"
    (samples / "subject_1.json").write_text(json.dumps(record | {"seed": 4}))
    (samples / "subject_2.json").unlink()
    with caplog.at_level(logging.WARNING, logger="ctsynth"):
        found = score(samples, store, "test")
    shared = {"method": "ddpm-mask", "sampler": record["sampler"]}
    assert found.provenance == shared | {"differing": ["seed"], "unknown": 1}
    assert "the volumes were made with different settings: seed" in caplog.text


def test_the_same_volumes_give_the_same_bytes(tmp_path, store, samples):
    for name in ("one.json", "other.json"):
        score(samples, store, "test").save(tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_one_subject_is_in_memory_at_a_time(store, samples, monkeypatch):
    alive = []

    class Watch(Metric):
        title = "Watch"

        def measure(self, pair):
            assert all(ref() is None for ref in alive)
            alive.append(weakref.ref(pair.real))
            return {"nothing": [0.0]}

        def result(self, records):
            return slice_mean(self, records, "nothing")

    monkeypatch.setattr(base, "find_metric", lambda name: Watch)
    score(samples, store, "test", metrics=["watch"])
    assert len(alive) == 3


def test_progress_counts_subjects(store, samples):
    seen = []
    score(samples, store, "test", progress=lambda done, note="": seen.append((done, note)))
    assert seen == [(0, ""), (1, "subject_0"), (2, "subject_1"), (3, "subject_2")]


def test_a_split_without_subjects_and_a_folder_that_is_not_there(tmp_path, store, samples):
    with pytest.raises(DataError, match="no train subjects"):
        score(samples, store, "train")
    with pytest.raises(DataError, match="no such file or folder"):
        score(tmp_path / "nowhere", store, "test")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("x.nii.gz: odd"), "x.nii.gz: odd"),
        (OSError(5, "Input/output error"), "subject_1.nii.gz: Input/output error"),
        (MemoryError(), "subject_1.nii.gz: not enough memory"),
        (ZeroDivisionError(), "subject_1.nii.gz: this is a bug in ctsynth"),
    ],
    ids=repr,
)
def test_no_error_of_one_volume_stops_the_others(error, said, store, samples, monkeypatch):
    done = measuring.read_pair

    def broken(subject, *words):
        if subject.name == "subject_1":
            raise error
        return done(subject, *words)

    monkeypatch.setattr(measuring, "read_pair", broken)
    with pytest.raises(RunError, match=rf"^1 of 3 volumes cannot be scored:\n.*{said}"):
        score(samples, store, "test", metrics=["psnr"])
    kept = samples / "measured" / "psnr"
    assert sorted(path.name for path in kept.iterdir()) == ["subject_0.npz", "subject_2.npz"]


def test_a_disk_that_is_full_stops_at_the_first_volume(store, samples, monkeypatch):
    def full(self, subject, *_):
        raise WriteError(f"{subject}: cannot write it: No space left on device")

    monkeypatch.setattr(measuring.Records, "keep", full)
    with pytest.raises(WriteError, match="subject_0: cannot write it"):
        score(samples, store, "test", metrics=["psnr"])


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "float64"])
def test_a_volume_of_any_dtype_is_scored_as_one_of_int16(dtype, store, samples, tmp_path, small_case, write_nifti):
    cases, found = [small_case(seed) for seed in range(3)], {}
    for kind in ("int16", dtype):
        for number, case in enumerate(cases):
            limits = np.iinfo(dtype) if dtype != "float64" else np.iinfo("int16")
            hu = np.clip(case.hu - (0 if limits.min else case.hu.min()), limits.min, min(limits.max, 32_000))
            write_nifti(tmp_path / kind / f"subject_{number}.nii.gz", hu.astype(kind), case.affine)
        found[kind] = values(score(tmp_path / kind, store, "test", metrics=["psnr", "ssim"]))
    assert found[dtype] == pytest.approx(found["int16"])
