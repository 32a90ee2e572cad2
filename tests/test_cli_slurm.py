"""The job script: what SLURM needs to read in it, and what the shell makes of it."""

import subprocess

import pytest
from small_runs import ctsynth

from ctsynth import plugins


def script(*words):
    done = ctsynth("slurm", *words)
    assert done.exit_code == 0, done.stderr
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    return done.stdout


def run(text, tmp_path, code, task=1):
    """Runs it with stand-ins for srun and scontrol that note their words; srun leaves with ``code``."""
    stand_ins = f"""
srun() {{ printf '%s\\n' "$@" > srun.txt; return {code}; }}
scontrol() {{ echo "$@" > scontrol.txt; }}
"""
    env = {
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_JOB_ID": "77",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(["bash", "-c", stand_ins + text], cwd=tmp_path, env=env, check=False)
    again = tmp_path / "scontrol.txt"
    return done.returncode, (tmp_path / "srun.txt").read_text().splitlines(), again.exists() and again.read_text()


def test_each_task_of_the_array_trains_its_method(tmp_path):
    text = script("--methods", "ddpm-mask,oasis", "--data", "/my data/out", "--gpus", "2", "--", "--seed", "1 2")
    assert "#SBATCH --array=0-1\n" in text
    assert "--gres=gpu:2" in text
    code, words, again = run(text, tmp_path, 0)
    assert (code, again) == (0, False)
    assert words[:2] == ["--cpus-per-task=8", "ctsynth"]  # srun does not inherit it from sbatch
    assert words[2:7] == ["train", "--method", "oasis", "--data", "/my data/out"]
    assert words[7] == "--out"
    assert words[8].endswith("/runs/oasis")
    assert words[9:] == ["--gpus", "2", "--seed", "1 2"]


COMPILED = {
    (): ([], True),
    ("--compile",): (["--compile"], True),
    ("--no-compile",): (["--no-compile"], False),
    ("--gpus", "0"): ([], False),
    ("--gpus", "0", "--compile"): (["--compile"], True),
}


@pytest.mark.parametrize("asked", COMPILED, ids=" ".join)
def test_compiled_graphs_outlive_a_task(tmp_path, asked):
    words, is_kept = COMPILED[asked]
    text = script("--runs", "my runs", *asked, "--", "--seed", "1")
    assert run(text, tmp_path, 0)[1][-2 - len(words) :] == [*words, "--seed", "1"]
    kept = subprocess.run(
        ["bash", "-c", f"srun() {{ :; }}\nexit() {{ echo $TORCHINDUCTOR_CACHE_DIR; }}\n{text}"],
        env={"SLURM_ARRAY_TASK_ID": "0", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    assert kept.strip().endswith("/my runs/.inductor") == is_kept


@pytest.mark.parametrize(("code", "again"), [(75, "requeue 77_1\n"), (1, False), (2, False)])
def test_only_what_was_saved_is_queued_again(tmp_path, code, again):
    assert run(script(), tmp_path, code)[::2] == (code, again)


def test_the_script_asks_slurm_for_what_a_preempted_job_needs():
    text = script("--partition", "gpu", "--account", "me", "--time", "72:00:00")
    for line in (
        "--signal=USR1@120",
        "--requeue --open-mode=append",
        "--mem=32G",
        "--partition=gpu",
        "--account=me",
        "=72:00:00",
    ):
        assert line in text
    assert f"#SBATCH --array=0-{len(plugins.names('ctsynth.methods')) - 1}\n" in text


def test_a_task_that_would_restart_from_scratch_each_time_is_refused():
    done = ctsynth("slurm", "--", "--overwrite")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--overwrite: a requeued task would start over" in done.stderr


def test_an_unknown_method_is_refused():
    done = ctsynth("slurm", "--methods", "stylegan")
    assert done.exit_code == 2
    assert "no method is called 'stylegan'" in done.stderr
