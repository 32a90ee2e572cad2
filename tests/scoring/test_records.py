"""Scoring keeps what it has measured: stopped, resumed, repeated or shared, it ends with the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_cases import SmallCase
from small_stores import make_store, write_synthetic
from typer.testing import CliRunner

from ctsynth.cli.app import app
from ctsynth.data.slices import stack, stacked_geometry
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.files import sole
from ctsynth.metrics.psnr import PSNR
from ctsynth.scoring.records import Records
from ctsynth.scoring.run import score, scoring
from ctsynth.segmentation.settings import Segmenting

SUBJECTS = 5


@pytest.fixture
def store(tmp_path, small_case):
    return make_store(tmp_path / "out", [small_case(seed) for seed in range(SUBJECTS)])


@pytest.fixture
def samples(tmp_path, store):
    return write_synthetic(tmp_path / "samples", store)


@pytest.fixture
def seen(monkeypatch):
    """The subjects whose PSNR was measured, in order."""
    names = []
    measure = PSNR.measure

    def watched(self, pair):
        names.append(pair.subject)
        return measure(self, pair)

    monkeypatch.setattr(PSNR, "measure", watched)
    return names


def test_scoring_again_measures_nothing_and_writes_the_same_bytes(tmp_path, store, samples, seen):
    for name in ("first.json", "second.json"):
        score(samples, store, "test").save(tmp_path / name)
    assert len(seen) == SUBJECTS
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_in_any_order_one_repeated_give_the_bytes_of_one_process(count, tmp_path, store, samples, seen):
    masks = tmp_path / "masks"
    for subject in store.subjects("test"):
        geometry = stacked_geometry(subject.geometry, store.size)
        moved = np.roll(stack(np.asarray(subject.mask())), 1, axis=0)
        Volume(moved, geometry).save(masks / f"{subject.name}.nii.gz")
    options = {"segmenting": Segmenting(str(masks))}
    score(samples, store, "test", **options).save(tmp_path / "scores.json")
    whole = (tmp_path / "scores.json").read_bytes()
    seen.clear()
    made = []
    for number in (*range(count, 0, -1), 1):
        with scoring(samples, store, "test", shard=f"{number}/{count}", overwrite=number > 1, **options) as work:
            made.append(work.measure())
    assert sum(made) == SUBJECTS - len(range(0, SUBJECTS, count))  # the first share was not overwritten
    score(samples, store, "test", **options).save(tmp_path / "merged.json")
    assert (tmp_path / "merged.json").read_bytes() == whole
    assert len(seen) == sum(made)


def test_any_number_of_workers_keeps_the_same_bytes(tmp_path, store):
    """The Dice of a folder of masks is measured in this process, the rest in the workers."""
    masks, kept = tmp_path / "masks", []
    for subject in store.subjects("test"):
        mask = Volume(stack(np.asarray(subject.mask())), stacked_geometry(subject.geometry, store.size))
        mask.save(masks / f"{subject.name}.nii.gz")
    for workers in (1, 2):
        samples, told = write_synthetic(tmp_path / f"{workers}" / "samples", store), []
        options = {"segmenting": Segmenting(str(masks)), "workers": workers}
        scores = score(samples, store, "test", progress=lambda done, *_, told=told: told.append(done), **options)
        scores.save(samples / "scores.json")
        assert told == sorted(told)
        assert (told[0], told[-1]) == (0, SUBJECTS)
        files = sorted(path for path in samples.rglob("*") if path.suffix in (".npz", ".json"))
        kept.append({path.relative_to(samples): path.read_bytes() for path in files})
    assert len(kept[0]) > 4 * SUBJECTS
    assert kept[0] == kept[1]


def test_a_volume_that_a_worker_cannot_measure_stops_no_other(store, samples):
    (samples / "subject_1.nii.gz").write_bytes(b"no volume")
    with pytest.raises(RunError, match=r"1 of 5 volumes cannot be scored:\n.*subject_1\.nii\.gz"):
        score(samples, store, "test", metrics=["psnr", "hu"], workers=2)
    kept = sorted(path.stem for path in (samples / "measured" / "psnr").iterdir())
    assert kept == [f"subject_{number}" for number in (0, 2, 3, 4)]


def test_shards_alone_are_enough(tmp_path, store, samples, seen):
    for number in (2, 1):
        with scoring(samples, store, "test", shard=f"{number}/2") as work:
            work.measure()
    assert sorted(seen) == sorted(store.subjects_by_name)
    merged = score(samples, store, "test")
    assert len(seen) == SUBJECTS
    other = write_synthetic(tmp_path / "unshared" / "samples", store)
    assert merged.metrics == score(other, store, "test").metrics


def test_a_shard_needs_the_volumes_of_its_own_subjects_only(store, samples):
    (samples / "subject_1.nii.gz").unlink()
    with scoring(samples, store, "test", shard="1/2") as work:
        assert work.measure() == 3
    with (
        pytest.raises(DataError, match=r"no volume of subject_1 \(1 of 2"),
        scoring(samples, store, "test", shard="2/2"),
    ):
        pass


SUICIDE = """
import os, signal, sys
from pathlib import Path
from ctsynth.data.store import Store
from ctsynth.scoring.records import Records
from ctsynth.metrics.psnr import PSNR
from ctsynth.scoring.run import score

measure = PSNR.measure
def once(self, pair):
    if pair.subject == "subject_2":
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(self, pair)
PSNR.measure = once
score(Path(sys.argv[1]), Store.open(Path(sys.argv[2])), "test")
"""


def test_killed_scoring_resumes_where_it_stopped(tmp_path, store, samples, seen):
    done = subprocess.run([sys.executable, "-c", SUICIDE, samples, store.root], check=False)
    assert done.returncode == -signal.SIGKILL
    resumed = score(samples, store, "test")
    assert seen == ["subject_2", "subject_3", "subject_4"]
    other = write_synthetic(tmp_path / "unbroken" / "samples", store)
    assert resumed.metrics == score(other, store, "test").metrics


def test_a_changed_volume_is_measured_again_and_a_touched_one_is_not(store, samples, seen):
    before = score(samples, store, "test").metrics["psnr"].per_subject
    seen.clear()
    os.utime(samples / "subject_0.nii.gz", (1, 1))
    path = samples / "subject_3.nii.gz"
    volume = Volume.load(path)
    Volume(np.roll(volume.voxels, 1, axis=0), volume.geometry).save(path)
    after = score(samples, store, "test").metrics["psnr"].per_subject
    assert seen == ["subject_3"]
    assert {name for name in after if after[name] != before[name]} == {"subject_3"}


@pytest.mark.parametrize("file", ["data/window.py", "scoring/pairs.py", "metrics/psnr.py", "scoring/run.py"])
def test_records_of_other_code_are_measured_again(store, samples, seen, own_code, file):
    for _ in range(2):
        score(samples, store, "test", metrics=["psnr"])
    assert len(seen) == SUBJECTS
    own_code("reporting/page.py")
    score(samples, store, "test", metrics=["psnr"])
    assert len(seen) == SUBJECTS
    own_code(file)
    score(samples, store, "test", metrics=["psnr"])
    assert len(seen) == 2 * SUBJECTS


def test_another_store_or_setting_of_the_metric_is_another_record(store, samples, small_case, seen, monkeypatch):
    score(samples, store, "test", metrics=["psnr"])
    seen.clear()
    monkeypatch.setattr(PSNR, "settings", PSNR.settings | {"data_range": 2.0})
    score(samples, store, "test", metrics=["psnr"])
    assert len(seen) == SUBJECTS
    seen.clear()
    cases = [small_case(seed) for seed in range(SUBJECTS)]
    cases[4].labels[cases[4].labels == 1] = 2  # the same grid and CT, another mask
    score(samples, make_store(store.root, cases), "test", metrics=["psnr"])
    assert seen == ["subject_4"]


def test_masks_that_change_are_scored_again(tmp_path, store, samples):
    folder = tmp_path / "masks"
    for subject in store.subjects("test"):
        mask = Volume(stack(np.asarray(subject.mask())), stacked_geometry(subject.geometry, store.size))
        mask.save(folder / f"{subject.name}.nii.gz")
    options = {"metrics": ["dice"], "segmenting": Segmenting(str(folder))}
    assert score(samples, store, "test", **options).metrics["dice"].total.value == 100
    Volume(np.zeros_like(mask.voxels), mask.geometry).save(folder / f"{subject.name}.nii.gz")
    assert score(samples, store, "test", **options).metrics["dice"].total.value < 100


def test_only_an_added_metric_is_measured(store, samples, seen):
    score(samples, store, "test", metrics=["psnr"])
    score(samples, store, "test", metrics=["psnr", "ssim"])
    assert len(seen) == SUBJECTS


def test_overwrite_measures_all_again(store, samples, seen):
    first = score(samples, store, "test")
    assert score(samples, store, "test", overwrite=True) == first
    assert len(seen) == 2 * SUBJECTS


def test_a_damaged_record_is_made_again(store, samples, seen):
    first = score(samples, store, "test")
    (samples / "measured" / "psnr" / "subject_1.npz").write_bytes(b"half")
    (samples / "measured" / "psnr" / "subject_2.npz").unlink()
    with (samples / "measured" / "psnr" / "subject_3.npz").open("wb") as file:  # whatever its name, a single array
        np.save(file, np.zeros(3))
    seen.clear()
    assert score(samples, store, "test") == first
    assert seen == ["subject_1", "subject_2", "subject_3"]


def test_damage_is_reported_and_the_users_arrays_are_not_overwritten(tmp_path, caplog):
    records, path = Records(tmp_path, ["a"]), tmp_path / "a.npz"
    assert not records.has("a", "k")
    assert not caplog.text
    path.write_bytes(b"half")
    assert not records.has("a", "k")
    assert "a.npz is damaged: measured again" in caplog.text
    records.keep("a", "k", {"x": np.zeros(3)})
    np.savez(path, x=np.ones(3))
    with pytest.raises(UsageError, match=r"a\.npz: not overwritten"):
        records.keep("a", "k", {"x": np.zeros(3)})
    assert np.load(path)["x"].tolist() == [1, 1, 1]


def test_a_record_that_would_unpack_to_more_than_its_file_is_not_read(tmp_path):
    records = Records(tmp_path, ["a"])
    records.keep("a", "k", {"x": np.zeros(1000)})
    assert records.has("a", "k")
    np.savez_compressed(tmp_path / "a.npz", **np.load(tmp_path / "a.npz"))
    assert not records.has("a", "k")
    with pytest.raises(DataError, match="not as it was written"):
        records["a"]


@pytest.mark.parametrize("values", [np.zeros(999), np.ones(1000), np.zeros(1000, np.float32), np.zeros((10, 100))])
def test_a_record_of_other_values_than_were_kept_is_not_taken(tmp_path, values):
    records = Records(tmp_path, ["a"])
    records.keep("a", "k", {"x": np.zeros(1000)})
    key = np.load(tmp_path / "a.npz")["key"]
    np.savez(tmp_path / "a.npz", key=key, **{"record/x": values})
    assert not records.has("a", "k")


def test_a_second_process_on_the_same_shard_is_refused(store, samples):
    with scoring(samples, store, "test", shard="1/2"):
        with (
            pytest.raises(RunError, match="another process is at work"),
            scoring(samples, store, "test", shard="1/2"),
        ):
            pass
        with scoring(samples, store, "test", shard="2/2") as other:
            assert other.measure() == 2


def test_volumes_that_others_own_are_scored_without_keeping_anything(store, samples, monkeypatch, caplog):
    wanted = score(samples, store, "test").metrics
    for path in sorted((samples / "measured").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (samples / "measured").rmdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert score(samples, store, "test").metrics == wanted
    assert not (samples / "measured").exists()
    assert "measurements are not kept" in caplog.text


def test_on_the_command_line_a_shard_writes_no_scores(tmp_path, store, samples, monkeypatch):
    def run(*words):
        done = CliRunner().invoke(app, ["score", "samples", "--metrics", "psnr", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    monkeypatch.chdir(tmp_path)
    run()
    whole = (samples / "scores.json").read_bytes()
    (samples / "scores.json").unlink()
    assert run("--shard", "1/2", "--overwrite") == "samples: 3 subjects measured, 0 kept\n"
    assert run("--shard", "1/2", "--json") == '{"samples": {"measured": 0, "kept": 3}}\n'
    for name, value in {"ID": "8", "MIN": "7", "MAX": "8", "COUNT": "2"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert run("--shard", "slurm") == "samples: 0 subjects measured, 2 kept\n"
    assert not (samples / "scores.json").exists()
    run()
    assert (samples / "scores.json").read_bytes() == whole


def test_the_command_exits_with_1_where_another_works_on_the_shard(tmp_path, store, samples, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with sole(samples / "measured" / ".score-1-of-2.lock"):
        done = CliRunner().invoke(app, ["score", "samples", "--shard", "1/2"])
    assert done.exit_code == 1
    assert "another process is at work" in done.stderr


PEAK = r"""
import re, sys
from pathlib import Path
from ctsynth.data.store import Store
from ctsynth.scoring.run import score

found = score(Path(sys.argv[1]), Store.open(Path(sys.argv[2])), "test", metrics=["psnr", "ssim", "gradient", "hu"])
print(found.slices, re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child's peak begins at its parent's")
def test_peak_memory_does_not_grow_with_the_number_of_slices(tmp_path):
    """Ten times as many slices of 128 x 128, a pair of which takes 147 kB: 53 MB if they were held.

    Measured: 4.0 to 4.1 MB on an idle machine, 5.04 on a busy one; 0.11 MB a subject, from 4 to 120 of them. Half
    of that is the histograms of `hu`, two of 16 classes x 401 HU x 4 bytes; its 2,000 bootstrap weights are 16 kB.
    Without `hu` it is 0.024 MB.
    """
    found = {}
    for subjects in (4, 40):
        store, samples = large_set(tmp_path / str(subjects), subjects)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, samples, store.root], capture_output=True, text=True, check=True
        )
        slices, kilobytes = map(int, done.stdout.split())
        found[slices] = kilobytes / 1024
    assert list(found) == [40, 400]
    assert found[400] - found[40] < 8


def large_set(root: Path, subjects: int, size: int = 128, slices: int = 10) -> tuple[Store, Path]:
    """A store of random slices, and synthetic volumes that are not compressed."""
    rng = np.random.default_rng(0)
    shape = (size, size, slices)
    case = SmallCase(
        rng.integers(-160, 240, shape, np.int16),
        rng.integers(0, 17, shape, np.uint8),
        np.diag([2.0, 2.0, 5.0, 1.0]),
    )
    cases = (case._replace(hu=np.roll(case.hu, number)) for number in range(subjects))
    store = make_store(root / "out", cases, size=size)
    for subject in store.subjects("test"):
        volume = Volume(stack(np.asarray(subject.ct())[::-1]), stacked_geometry(subject.geometry, size))
        volume.save(root / "samples" / f"{subject.name}.nii")
    return store, root / "samples"
