"""A real SLURM on this machine: what it does to a job, and what the job makes of it."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import ctsynth, fit, labels_like, settings, weights
from small_stores import both_splits

SLURM_UP = Path(__file__).resolve().parents[2] / "shared" / "tools" / "slurm_up.sh"
JOB_TIMEOUT = 600.0  # s, after which something hangs on the busiest machine

pytestmark = pytest.mark.slurm


def missing():
    """What there should be for these tests and is not; None if all is there."""
    for program in ("slurmctld", "slurmd", "sbatch", "munged"):
        if not shutil.which(program):
            return f"no {program} here: apt-get install slurm-wlm munge"
    if not SLURM_UP.exists():
        return f"no {SLURM_UP}, which starts SLURM on one machine"
    if os.geteuid() != 0:
        return "SLURM is started as root"
    if len(os.sched_getaffinity(0)) < 2:
        return "two tasks at a time want two cores"
    return None


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Runs a command of SLURM's and returns what it says; partition high preempts low, with 60 s of grace."""
    if reason := missing():
        pytest.skip(reason)
    state = tmp_path_factory.mktemp("slurm")
    controller, daemon = map(str, free_ports(2))
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    threads = env.pop("OMP_NUM_THREADS")  # which nproc, asked for the node's cores, would say
    env |= {"GRACE": "60", "SLURMCTLD_PORT": controller, "SLURMD_PORT": daemon}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"  # where ctsynth is
    started = subprocess.run(["bash", SLURM_UP, state], env=env, capture_output=True, text=True)
    env |= {"SLURM_CONF": str(state / "slurm.conf"), "OMP_NUM_THREADS": threads}

    def run(*words, **more):
        done = subprocess.run([str(word) for word in words], env=env | more, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    try:
        assert started.returncode == 0, started.stderr
        until(lambda: "idle" in run("sinfo"), "the node is there")
        yield run
        run("scancel", "--user=root")
        until(lambda: not run("squeue", "--noheader"), "no job is left")
    finally:
        subprocess.run(["bash", SLURM_UP, state, "stop"], check=True)


def until(is_so, what):
    """Returns when something is so."""
    deadline = time.monotonic() + JOB_TIMEOUT
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {JOB_TIMEOUT:.0f} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def jobs(cluster, tmp_path, monkeypatch):
    """Submits jobs, looks at them and queues them again; the test's folder is theirs."""
    monkeypatch.chdir(tmp_path)
    weights_at = os.environ["CTSYNTH_WEIGHTS"]

    def submit(script, *options, **env):
        (tmp_path / "job.sbatch").write_text(script)
        return cluster("sbatch", "--parsable", *options, "job.sbatch", CTSYNTH_WEIGHTS=weights_at, **env)

    def show(task):
        """A task of an array, as SLURM has it."""
        words = cluster("scontrol", "--oneliner", "show", "job", task).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(task, *states, restarts=None):
        def is_so():
            shown = show(task)
            return shown["JobState"] in states and restarts in (None, int(shown["Restarts"]))

        until(is_so, f"{task} is {' or '.join(states)}; it is {show(task)}; its log: {log()}")

    def begin_again(task):
        """Without the two minutes that SLURM lets pass after a requeue."""
        until(lambda: show(task)["Reason"] == "BeginTime", f"{task} waits")
        soon = "now+2seconds"  # within the same second the node would take it for the one that has ended
        cluster("scontrol", "update", f"JobId={task}", f"StartTime={soon}")
        until(lambda: show(task)["JobState"] != "PENDING", f"{task} begins again")

    def log():
        return "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))

    return SimpleNamespace(run=cluster, submit=submit, show=show, wait=wait, begin_again=begin_again, log=log)


def losses(run):
    """The rows of metrics.jsonl but for the speed."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "images_per_s"} for row in rows]


def script(*words):
    done = ctsynth("slurm", "--gpus", 0, "--cpus", 1, "--mem", "0", "--time", "30", "--partition", "low", *words)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_preempted_and_out_of_time_a_run_ends_as_the_unbroken_one(jobs, tmp_path, small_case):
    both_splits(tmp_path / "out", small_case, size=32)
    words = ["--preset", "tiny", "--iterations", 60, "--batch-size", 4, "--sample-every", 1000]
    task = jobs.submit(script("--methods", "ddpm-mask", "--", *words)) + "_0"
    run = tmp_path / "runs" / "ddpm-mask"
    until(lambda: (run / "metrics.jsonl").exists(), "it has trained 10 steps")
    jobs.run(
        "scancel", "--signal=STOP", task
    )  # so that it does not end before SLURM, which sends SIGCONT first, acts
    jobs.run("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap", "true")
    jobs.wait(task, "PENDING", restarts=1)
    assert "SIGTERM at step" in jobs.log()
    rows = len(losses(run))

    jobs.begin_again(task)
    until(lambda: len(losses(run)) > rows, "it goes on")
    # As --signal=USR1@120 does, to the tasks and not to the batch shell; SLURM itself counts in minutes.
    jobs.run("scancel", "--signal=USR1", task)
    jobs.wait(task, "PENDING", restarts=2)
    assert "SIGUSR1 at step" in jobs.log()

    jobs.begin_again(task)
    unbroken = tmp_path / "unbroken"
    done = ctsynth("train", "--method", "ddpm-mask", "--device", "cpu", "--out", unbroken, *words)
    assert done.exit_code == 0, done.stderr
    jobs.wait(task, "COMPLETED")
    assert "continuing" in jobs.log()
    assert weights(run, 60) == weights(unbroken, 60)
    assert losses(run) == losses(unbroken)


@pytest.fixture
def stand_in(tmp_path):
    """Puts a shell script in ctsynth's place and returns the PATH that finds it."""

    def put(text):
        program = tmp_path / "bin" / "ctsynth"
        program.parent.mkdir()
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
        return f"{program.parent}:{os.environ['PATH']}"

    return put


def test_a_task_queues_itself_again_and_no_other(jobs, stand_in):
    """The last task to begin has the array's number for its job's, which scontrol takes for all tasks."""
    path = stand_in('[[ "$*" == *oasis* ]] || exit 0; [ -n "$SLURM_RESTART_COUNT" ] || exit 75')
    job = jobs.submit(script("--methods", "sdm,spade,oasis"), PATH=path)
    jobs.wait(f"{job}_2", "PENDING", restarts=1)
    assert jobs.show(f"{job}_2")["JobId"] == job
    for task in (f"{job}_0", f"{job}_1"):
        assert (jobs.show(task)["JobState"], jobs.show(task)["Restarts"]) == ("COMPLETED", "0")
    jobs.begin_again(f"{job}_2")
    jobs.wait(f"{job}_2", "COMPLETED")


def test_a_canceled_job_is_not_queued_again(jobs, stand_in, tmp_path):
    path = stand_in("trap 'echo saved; exit 75' TERM; touch begun; sleep 60 & wait")
    task = jobs.submit(script("--methods", "sdm"), PATH=path) + "_0"
    until((tmp_path / "begun").exists, "it has begun")
    jobs.run("scancel", task)
    until(lambda: "saved" in jobs.log(), "it saves")
    jobs.wait(task, "CANCELLED")
    until(lambda: not jobs.run("squeue", "--noheader"), "it is gone")
    assert jobs.show(task)["Restarts"] == "0"


def test_an_array_with_a_task_killed_and_repeated_draws_what_one_process_does(
    jobs, tmp_path, small_case, write_nifti
):
    fit(both_splits(tmp_path / "out", small_case), tmp_path / "run")
    for number in range(9):
        case = small_case(number)
        write_nifti(tmp_path / "segs" / f"{number}.nii.gz", labels_like(case), case.affine)
    draw = ["sample", "--mask", "segs", "--model", "run", "--sampler", "ddpm", "--steps", 50, "--device", "cpu"]
    batch = f"#!/bin/bash\nexec ctsynth {' '.join(map(str, draw))} --out shards --shard slurm\n"
    job = jobs.submit(batch, "--partition=low", "--array=1-4", "--output=%a.log", "--open-mode=append")
    first, last = (tmp_path / "shards" / f"{number}_synthetic.nii.gz" for number in (0, 8))
    until(first.exists, "the first task has drawn one of its three")
    jobs.run("scancel", "--signal=KILL", "--batch", f"{job}_1")
    jobs.wait(f"{job}_1", "FAILED", "CANCELLED")
    assert not last.exists()

    jobs.run("scontrol", "requeue", f"{job}_1")
    jobs.begin_again(f"{job}_1")
    done = ctsynth(*draw, "--out", "whole")
    assert done.exit_code == 0, done.stderr
    for task in range(1, 5):
        jobs.wait(f"{job}_{task}", "COMPLETED")
    assert "is whole: skipped" in (tmp_path / "1.log").read_text()
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("[0-9]*")}
    assert len(whole) == 18
    assert whole == {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("[0-9]*")}


def test_a_study_with_a_task_killed_and_repeated_finds_what_one_process_does(jobs, tmp_path, small_case):
    both_splits(tmp_path / "out", small_case, train=4)
    study = "augment out --preset tiny --method ddpm-concat --arms R,R+S --fractions 0.5,1 --draws 1 --seeds 1"
    study += " --doses 1 --iterations 4 --generator-iterations 40 --steps 1 --device cpu"
    options = ("--partition=low", "--array=1-2", "--requeue", "--output=%a.log", "--open-mode=append")
    job = jobs.submit(f"#!/bin/bash\nctsynth {study} --shard slurm\n", *options)
    cell = tmp_path / "augment" / "fraction-0.5" / "draw-0"
    until((cell / "generator" / "metrics.jsonl").exists, f"a generator is being trained; {jobs.log()}")
    jobs.run("scancel", "--signal=KILL", "--batch", f"{job}_1")
    jobs.wait(f"{job}_1", "FAILED", "CANCELLED")
    done_before = (cell / "R" / "seed-0" / "result.json").stat().st_mtime_ns
    assert not (cell / "R+S").exists()

    jobs.run("scontrol", "requeue", f"{job}_1")
    jobs.begin_again(f"{job}_1")
    whole = ctsynth(*study.split(), "--out", "whole")
    assert whole.exit_code == 0, whole.stderr
    for task in (1, 2):
        jobs.wait(f"{job}_{task}", "COMPLETED")
    assert (cell / "R" / "seed-0" / "result.json").stat().st_mtime_ns == done_before
    shared_out = ctsynth(*study.split())
    assert "4 of 4 segmenters are done" in shared_out.stderr
    assert shared_out.stdout == whole.stdout
    one, other = (json.loads((tmp_path / name / "augment.json").read_text()) for name in ("augment", "whole"))
    assert one | {"hours": None} == other | {"hours": None}


def test_srun_makes_two_ranks_and_the_batch_script_itself_is_one(jobs, tmp_path, small_case):
    both_splits(tmp_path / "out", small_case)
    words = shlex.join(settings())
    batch = f"""#!/bin/bash
ctsynth train {words} --out alone > alone.out 2> alone.log &
srun --kill-on-bad-exit=0 --wait=60 ctsynth train {words} --out together > together.out 2> together.log || exit
wait $!
"""
    job = jobs.submit(batch, "--partition=low", "--nodes=1", "--ntasks=2", "--output=out.log")
    jobs.wait(job, "COMPLETED", "FAILED")
    assert jobs.show(job)["JobState"] == "COMPLETED", jobs.log()
    assert (tmp_path / "alone.out").read_text() == "alone\n"
    assert (tmp_path / "together.out").read_text() == "together\n"
    assert "ranks" not in (tmp_path / "alone.log").read_text()
    assert "2 ranks on cpu" in (tmp_path / "together.log").read_text()
    for one, two in zip(losses(tmp_path / "alone"), losses(tmp_path / "together"), strict=True):
        assert one == pytest.approx(two, rel=1e-4)
