import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from small_runs import ctsynth, labels_like

from ctsynth.data.volume import Volume
from ctsynth.training import checkpoint


@pytest.fixture
def folder(run_folder):
    return run_folder


def sampled(*words):
    return ctsynth("sample", "--steps", 3, "--device", "cpu", *words)


def test_the_shortest_command_takes_the_newest_run_and_says_so(folder):
    shutil.copytree(folder / "runs" / "one", folder / "runs" / "older")
    long_ago = time.time() - 1000
    os.utime(folder / "runs" / "older" / "latest", (long_ago, long_ago))
    done = ctsynth("sample", "--mask", "seg.nii.gz")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "seg_synthetic.nii.gz\n"
    assert "model: runs/one/checkpoints/step_000000006" in done.stderr
    record = json.loads((folder / "seg_synthetic.json").read_text())
    assert record["sampler"] == {"name": "dpm++", "steps": 20, "eta": 0.0, "guidance": 1.0}
    assert nib.load("seg_synthetic.nii.gz").shape == (32, 24, 6)


def test_stdout_holds_a_path_a_volume_drawn_or_skipped(folder):
    (folder / "segs").mkdir()
    for name in "ab":
        shutil.copy("seg.nii.gz", folder / "segs" / f"{name}.nii.gz")
    paths = "drawn/a_synthetic.nii.gz\ndrawn/b_synthetic.nii.gz\n"
    first = sampled("--mask", "segs", "--out", "drawn")
    assert first.stdout == paths
    assert "skipped" not in first.stderr
    before = {path: path.stat().st_mtime_ns for path in (folder / "drawn").iterdir()}
    again = sampled("--mask", "segs", "--out", "drawn")
    assert again.stdout == paths
    assert again.stderr.count("is whole: skipped") == 2
    assert {path: path.stat().st_mtime_ns for path in (folder / "drawn").iterdir()} == before
    part = sampled("--mask", "segs", "--out", "part", "--shard", "2/2")
    assert part.stdout == "part/b_synthetic.nii.gz\n"


def test_a_store_is_drawn_into_a_folder(folder):
    done = sampled("--data", "out")
    assert done.stdout == "synthetic/subject_t.nii.gz\n", done.stderr
    train = sampled("--data", "out", "--split", "train", "--out", "real")
    assert train.stdout == "real/subject_0.nii.gz\nreal/subject_1.nii.gz\n"


def test_the_papers_preset_is_ancestral_in_a_thousand_steps(folder, monkeypatch):
    seen, compiled = [], []

    def listen(trained, cases, sampling, **_):
        seen.append((sampling.sampler.name, sampling.sampler.steps))
        compiled.append(sampling.compile)
        return iter(())

    monkeypatch.setattr("ctsynth.sampling.volumes.sample", listen)
    ctsynth("sample", "--mask", "seg.nii.gz", "--preset", "paper")
    ctsynth("sample", "--mask", "seg.nii.gz", "--sampler", "ddim", "--steps", 7, "--compile")
    ctsynth("sample", "--mask", "seg.nii.gz")
    assert seen == [("ddpm", 1000), ("ddim", 7), ("dpm++", 20)]
    assert compiled == [False, True, False]


def test_eta_is_the_noise_of_ddim(folder):
    words = ["--mask", "seg.nii.gz", "--sampler", "ddim", "--steps", 4]
    drawn = {}
    for eta in (None, 0, 0.5):
        done = sampled(*words, *([] if eta is None else ["--eta", eta]), "--out", f"{eta}.nii.gz")
        assert done.exit_code == 0, done.stderr
        drawn[eta] = (folder / f"{eta}.nii.gz").read_bytes()
    assert drawn[None] == drawn[0] != drawn[0.5]
    assert json.loads((folder / "0.5.json").read_text())["sampler"]["eta"] == 0.5
    sampled(*words, "--eta", 0.5, "--out", "again.nii.gz", "--noise", "volume", "--batch-size", 3)
    ours, theirs = (Volume.load(folder / f"{name}.nii.gz").voxels for name in ("again", "0.5"))
    np.testing.assert_allclose(ours, theirs, atol=1)


REFUSED = [
    ([], "either --mask or --data"),
    (["--mask", "seg.nii.gz", "--data", "out"], "either --mask or --data"),
    (["--mask", "nowhere.nii.gz"], "nowhere.nii.gz: no such file"),
    (["--mask", "seg.nii.gz", "--model", "nowhere"], "nowhere: no such run or checkpoint"),
    (["--mask", "seg.nii.gz", "--labels", "amos23"], "no label set is called 'amos23'"),
    (["--mask", "nowhere.nii.gz", "--steps", "1001"], "--steps 1001 is more than the 1000"),  # before it is read
    (["--mask", "nowhere.nii.gz", "--guidance", "2"], "--guidance 2 needs a model trained with label dropout"),
    (["--mask", "nowhere.nii.gz", "--eta", "0.5"], "--eta is DDIM's; dpm++ does not take it"),
    (["--mask", "seg.nii.gz", "--sampler", "ddim", "--eta", "1.5"], "--eta"),
    (["--mask", "seg.nii.gz", "--out", "x.mhd"], "--out x.mhd: .mhd is not written, wanted .nii.gz, .nii,"),
    (["--mask", "seg.nii.gz", "--precision", "bf16"], "--precision bf16 on cpu"),
    (["--mask", "seg.nii.gz", "--shard", "3/2"], "--shard 3/2: wanted I/N"),
    (["--mask", "seg.nii.gz", "--sampler", "plms"], "plms"),
    (["--mask", "runs/one/config.json"], "config.json: not a NIfTI file"),
    (["--data", "out", "--labels", "amos22"], "--labels, --unmatched and --body-from are for --mask"),
    (["--data", "out", "--out", "one.nii.gz"], "--out one.nii.gz: name a folder"),
    (["--mask", "seg.nii.gz", "--body-from", "nowhere.nii.gz"], "nowhere.nii.gz: no such file"),
    (["--data", "out", "--unmatched", "body"], "--labels, --unmatched and --body-from are for --mask"),
    (["--mask", "seg.nii.gz", "--unmatched", "air"], "air"),
    (["--data", "nowhere"], "nowhere: no slice store here"),
]


@pytest.mark.parametrize(
    ("words", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else None
)
def test_invalid_arguments_are_refused_and_leave_nothing(folder, words, message):
    before = sorted(folder.rglob("*"))
    done = sampled(*words)
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert sorted(folder.rglob("*")) == before


def test_no_run_says_how_to_train_one(folder):
    shutil.rmtree(folder / "runs")
    done = sampled("--mask", "seg.nii.gz")
    assert done.exit_code == 2
    assert "no run with a checkpoint in runs/" in done.stderr
    assert "ctsynth train --cond mask, or name a run, such as demo/runs/ddpm-mask" in " ".join(done.stderr.split())


def test_a_truncated_checkpoint_is_named_and_another_can_be_used(folder):
    file = checkpoint.find(folder / "runs" / "one") / "ema.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    done = sampled("--mask", "seg.nii.gz")
    assert done.exit_code == 2
    assert "runs/one/checkpoints/step_000000006/ema.safetensors: cannot read it" in done.stderr
    assert sampled("--mask", "seg.nii.gz", "--model", "runs/one/checkpoints/step_000000004").exit_code == 0
    assert sampled("--mask", "seg.nii.gz", "--raw", "--overwrite").exit_code == 0


def test_an_unknown_label_is_named(folder, small_case, write_nifti):
    case = small_case(3)
    labels = labels_like(case)
    labels[0, 0, 0] = 99
    write_nifti(folder / "odd.nii.gz", labels, case.affine)
    done = sampled("--mask", "odd.nii.gz")
    assert done.exit_code == 2
    assert "odd.nii.gz: holds 99; amos22 has 0 to 16" in done.stderr
    assert "--labels totalsegmentator" in done.stderr
    assert not (folder / "odd_synthetic.nii.gz").exists()


def test_a_folder_that_cannot_be_written_exits_with_1(folder):
    (folder / "file").write_text("")
    done = sampled("--mask", "seg.nii.gz", "--out", "file/folder")
    assert done.exit_code == 1
    assert "file/folder: cannot write it: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


KILLED = """
import os, signal, sys
from ctsynth.cli.app import main

def replace(source, target, replace=os.replace):
    if str(target).endswith("b_synthetic.nii.gz"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = replace
sys.argv[0] = "ctsynth"
main()
"""
"""Is killed when its second volume is about to appear."""


def test_killed_and_run_again_is_unbroken(folder):
    (folder / "segs").mkdir()
    for name in "abc":
        shutil.copy("seg.nii.gz", folder / "segs" / f"{name}.nii.gz")
    words = ["sample", "--mask", "segs", "--steps", "3", "--device", "cpu"]
    assert ctsynth(*words, "--out", "whole").exit_code == 0
    killed = subprocess.run([sys.executable, "-c", KILLED, *words, "--out", "broken"], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in (folder / "broken").glob("[abc]*.nii.gz")) == ["a_synthetic.nii.gz"]
    assert list((folder / "broken").glob(".partial-*"))
    assert ctsynth(*words, "--out", "broken").exit_code == 0
    for name in "abc":
        file = f"{name}_synthetic.nii.gz"
        assert (folder / "broken" / file).read_bytes() == (folder / "whole" / file).read_bytes()
    assert not list((folder / "broken").glob(".partial-*"))
