"""Whatever breaks a run of two ranks, the same command ends in the bytes of one that nothing broke."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import forked_commands
import pytest
from small_cases import make_small_case
from small_runs import SMALL, settings
from small_stores import both_splits

from ctsynth.training import checkpoint
from ctsynth.training.stepper import Stepper

REPETITIONS = [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 20))]
EVERY, LAST = 3, 24
"""Steps between checkpoints, and in all; the rows of metrics.jsonl fall between checkpoints."""
HANGS = 600.0
"""Seconds after which a command that should end hangs, on the busiest machine."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="ranks are found in Linux's /proc")


METHODS = [
    "ddpm-concat",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("spade", "oasis", "edm-volume")),
]


class Job:
    """``ctsynth train --ranks 2`` on a store; each case breaks a run of its own."""

    def __init__(self, method, root, make_case):
        store = both_splits(root / "store", make_case, size=32 if method in SMALL else 16)
        (root / "more.toml").write_text("[training]\nlog_every = 4\nkeep_every = 9\nnorm_batches = 2\n")
        words = ["train", *settings(method, iterations=LAST, **{"save-every": EVERY}), "--ranks", 2]
        self.words = [*map(str, words), "--data", str(store.root), "--config", str(root / "more.toml"), "--out"]
        subprocess.run(
            [sys.executable, "-m", "ctsynth", *self.words, root / "run"], check=True, capture_output=True
        )
        self.unbroken = content(root / "run")

    def start(self, run, plant=None):
        return forked_commands.start([*self.words, run], run.parent, plant)

    def ends_right(self, run):
        """Runs the command once more; returns what it says on stderr."""
        process = self.start(run)
        process.join()
        stderr = (run.parent / "err").read_text()
        assert process.exitcode == 0, stderr
        ours = content(run)
        assert {name for name in ours.keys() | self.unbroken if ours.get(name) != self.unbroken.get(name)} == set()
        return stderr


def content(run):
    """Of each file the bytes; rows without their speed."""
    files = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    rows = [json.loads(line) for line in files[Path("metrics.jsonl")].splitlines()]
    files[Path("metrics.jsonl")] = [list(row.items()) for row in rows if row.pop("images_per_s") > 0]
    return files


@pytest.fixture(scope="module", params=METHODS)
def job(request, tmp_path_factory):
    return Job(request.param, tmp_path_factory.mktemp("job"), make_small_case)


class EndedTooSoonError(Exception):
    """The command ended before it could be broken off."""


def until(condition, process):
    """Waits for what a process does; returns it."""
    while not (found := condition()):
        if not process.is_alive():
            raise EndedTooSoonError
        time.sleep(0.0005)
    return found


def broken_off(start, run, fault):
    """Starts commands until a fault meets one before its end, which a busy machine may bring about first.

    Args:
        start: Starts a command that trains the run.
        run: Its folder.
        fault: Brings the fault about in a process; returns the ranks' processes.

    Returns:
        The exit code.
    """
    for _ in range(20):
        process = start()
        with suppress(EndedTooSoonError, FileNotFoundError, ProcessLookupError):
            ranks = fault(process)
            if code := left(process, ranks):
                return code
        process.join()
        assert process.exitcode == 0
        shutil.rmtree(run)
    raise EndedTooSoonError


def at_a_random_moment(moment, process, run, earliest=0):
    """Returns when a checkpoint drawn at random is there, some time into what comes then; the ranks' processes."""
    ranks = until(lambda: len(found := forked_commands.ranks(process.pid)) == 2 and found, process)
    number = moment.randint(earliest, LAST // EVERY - 3)
    until(lambda: max(steps(run), default=0) >= number * EVERY, process)
    time.sleep(moment.uniform(0, 0.2 if number else 1.0))
    return ranks


def steps(run):
    return [checkpoint.step_of(path) for path in checkpoint.saved(run)]


def left(process, ranks):
    """The exit code of a command that ends and takes its ranks with it."""
    process.join(HANGS)
    assert not process.is_alive()
    assert [rank for rank in ranks if Path(f"/proc/{rank}").exists()] == []
    return process.exitcode


def is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("number", REPETITIONS)
def test_rank_1_is_killed(job, tmp_path, number):
    moment, run = random.Random(f"rank 1, {number}"), tmp_path / "run"

    def kill(process):
        ranks = at_a_random_moment(moment, process, run)
        os.kill(ranks[1], signal.SIGKILL)
        return ranks

    assert broken_off(lambda: job.start(run), run, kill) == 1
    stderr = (tmp_path / "err").read_text()
    assert (
        "error: rank 1 of 2 was killed by SIGKILL: stopped the others\n hint: the same command continues" in stderr
    )
    assert "Traceback" not in stderr
    job.ends_right(run)


@pytest.mark.parametrize("number", REPETITIONS)
def test_rank_0_is_killed_while_it_writes_a_checkpoint(job, tmp_path, number):
    moment, run = random.Random(f"rank 0, {number}"), tmp_path / "run"
    written = (run / "checkpoints").glob

    def kill(process):
        ranks = at_a_random_moment(moment, process, run)
        while True:
            until(lambda: any(written(".partial-*")), process)
            time.sleep(moment.uniform(0, 0.02))
            os.kill(ranks[0], signal.SIGSTOP)  # so as to see whether it still writes
            until(lambda: is_stopped(ranks[0]), process)
            if any(written(".partial-*")):
                break
            os.kill(ranks[0], signal.SIGCONT)
        os.kill(ranks[0], signal.SIGKILL)
        return ranks

    assert broken_off(lambda: job.start(run), run, kill) == 1
    assert "error: rank 0 of 2 was killed by SIGKILL: stopped the others" in (tmp_path / "err").read_text()
    job.ends_right(run)


@pytest.fixture
def disk(tmp_path, job):
    """A disk of 16 MB, or with room for the run three times."""
    whole = sum(len(found) for path, found in job.unbroken.items() if path.name != "metrics.jsonl")
    size = max(16 * 2**20, 3 * whole)
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no disk of its own can be had here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("number", REPETITIONS)
def test_the_disk_is_full_when_a_checkpoint_is_due(job, disk, number):
    moment, run = random.Random(f"disk, {number}"), disk / "run"
    newest = checkpoint.path_of(Path(), LAST)
    size = sum(len(found) for path, found in job.unbroken.items() if path.parent == newest)

    def fill_the_disk(process):
        ranks = at_a_random_moment(moment, process, run)
        fill(disk, moment.randrange(20_000, size - 20_000), process)
        return ranks

    assert broken_off(lambda: forked_commands.start([*job.words, run], disk.parent), run, fill_the_disk) == 1
    stderr = (disk.parent / "err").read_text()
    assert "Traceback" not in stderr
    found = re.search(
        r"error: \S+/run/(\S+): cannot write it: No space left on device; (.*)\n hint: free some space, then run"
        r" the same command again", stderr,
    )  # fmt: skip
    assert found, stderr
    assert re.fullmatch(r"checkpoints/step_\d{9}|latest", found[1])
    if there := steps(run):
        assert found[2] == f"the checkpoint of step {max(there)} is still there"
        assert (run / "latest").read_text() == f"step_{max(there):09d}\n"
        for path in checkpoint.saved(run):
            checkpoint.verify(path)
    else:
        assert found[2] == "there is none before it"
    assert not list(run.rglob(".partial-*"))
    (disk / "ballast").unlink()
    job.ends_right(run)


def fill(disk, room, process):
    """Leaves so many bytes free on a disk, and no more while the process lives."""
    with (disk / "ballast").open("wb") as ballast:
        size = 0
        while process.is_alive():
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            with suppress(OSError):  # the process took it meanwhile
                if free > room:
                    os.posix_fallocate(ballast.fileno(), size, free - room)
                    size += free - room
            time.sleep(0.002)


def damage(moment, file):
    """Truncates a file, leaves a hole in it or flips a bit, as disks do."""
    before = file.read_bytes()
    while file.read_bytes() == before:
        place, kind = moment.randrange(len(before)), moment.choice(("truncated", "hole", "bit"))
        if file.suffix == ".json" or file.name == "latest":  # of which some bits mean nothing
            kind = moment.choice(("truncated", "hole"))
        after = bytearray(before)
        if kind == "truncated":
            del after[place:]
        elif kind == "hole":
            after[place : place + 512] = bytes(len(after[place : place + 512]))
        else:
            after[place] ^= 1 << moment.randrange(8)
        file.write_bytes(after)
    return f"{file.name} {kind} at {place}"


@pytest.mark.parametrize("number", REPETITIONS)
def test_the_newest_checkpoint_is_damaged(job, tmp_path, number):
    moment, run = random.Random(f"damage, {number}"), tmp_path / "run"

    def kill(process):
        ranks = at_a_random_moment(moment, process, run, earliest=2)
        os.kill(ranks[0], signal.SIGKILL)
        return ranks

    assert broken_off(lambda: job.start(run), run, kill) == 1
    before, newest = sorted(steps(run))[-2:]
    path = checkpoint.path_of(run, newest)
    names = ("model.safetensors", "ema.safetensors", "trainer.pt", "config.json", "latest")
    file = moment.choice([run / name if name == "latest" else path / name for name in names])
    what = damage(moment, file)
    stderr = job.ends_right(run)
    if file.name == "latest":
        assert f"continuing {run} at step {newest}\n" in stderr, what
    else:
        assert re.search(rf"warning: {path}.*: trying the checkpoint before it\n", stderr), (what, stderr)
        assert f"continuing {run} at step {before}\n" in stderr, what


def wait_in_the_fifth_step():
    optimize = Stepper._optimize

    def waiting(stepper, stop):
        while stepper.step == 4 and not stop.requested:
            time.sleep(0.01)
        return optimize(stepper, stop)

    Stepper._optimize = waiting


def test_ctrl_c_on_the_launcher_saves_and_exits_with_130(job, tmp_path):
    process = job.start(tmp_path / "run", wait_in_the_fifth_step)
    until(lambda: steps(tmp_path / "run"), process)
    ranks = forked_commands.ranks(process.pid)
    os.kill(process.pid, signal.SIGINT)
    assert left(process, ranks) == 130
    stderr = (tmp_path / "err").read_text()
    assert re.search(r"error: SIGTERM at step [345]: saved \S+/run\n hint: the same command continues", stderr), (
        stderr
    )
    job.ends_right(tmp_path / "run")


def raise_in_rank_1():
    Path(f"rank {os.getpid()}").touch()
    if os.environ["RANK"] == "1":
        Stepper._optimize = lambda stepper, stop: [][stepper.step]


def test_a_rank_that_raises_takes_the_others_down_and_says_why(job, tmp_path):
    process = job.start(tmp_path / "run", raise_in_rank_1)
    process.join(HANGS)
    ranks = [path.name.removeprefix("rank ") for path in tmp_path.glob("rank *")]
    assert (left(process, ranks), len(ranks)) == (1, 2)
    stderr = (tmp_path / "err").read_text()
    assert re.search(r"error: train: this is a bug in ctsynth .*: IndexError: list index out of range", stderr), (
        stderr
    )
    assert "Traceback" not in stderr
