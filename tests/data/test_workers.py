import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctsynth.data.workers import outcomes
from ctsynth.errors import DataError, RunError


def square(number):
    return number**2


def fail(number):
    if number == 0:
        raise RunError("no space", hint="free some")
    time.sleep(0.05)
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def shrug(number):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_every_case_comes_with_its_own_outcome(workers):
    assert dict(outcomes(square, range(5), workers)) == {number: number**2 for number in range(5)}
    assert list(outcomes(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_task_reaches_the_caller_with_its_hint(workers):
    with pytest.raises(RunError, match="no space") as error:
        list(outcomes(fail, range(40), workers))
    assert error.value.hint == "free some"


def test_a_worker_that_is_killed_is_an_error_with_advice():
    with pytest.raises(RunError, match="killed") as error:
        list(outcomes(die, range(3), 2))
    assert "`workers`" in error.value.hint


def test_a_signal_to_the_whole_group_lets_workers_finish():
    assert sorted(outcomes(shrug, range(3), 2)) == [(0, 0), (1, 1), (2, 2)]


def wait_for_ever(folder):
    (folder / str(os.getpid())).touch()
    signal.sigwait([signal.SIGCONT])


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="processes are found in Linux's /proc")
def test_a_second_ctrl_c_waits_for_no_worker(tmp_path):
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_workers
from ctsynth.cli import info
from ctsynth.cli.app import main
info._found = lambda _: list(test_workers.outcomes(test_workers.wait_for_ever, [Path({str(tmp_path)!r})] * 2, 2))
sys.argv = ["ctsynth", "info"]
if __name__ == "__main__":
    main()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    while len(workers := list(tmp_path.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    while "second Ctrl-C" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stderr.close()
    while any(Path("/proc", worker.name).exists() for worker in workers):
        time.sleep(0.01)


def refuse(number):
    return DataError(f"{number} is broken", hint="mend it")


def test_errors_that_are_outcomes_come_back_with_their_hints():
    found = dict(outcomes(refuse, range(2), 2))
    assert [(found[number].message, found[number].hint) for number in range(2)] == [
        ("0 is broken", "mend it"),
        ("1 is broken", "mend it"),
    ]
