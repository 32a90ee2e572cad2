import os
import signal
import time

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
    assert "--workers" in error.value.hint


def test_a_signal_to_the_whole_group_lets_workers_finish():
    assert sorted(outcomes(shrug, range(3), 2)) == [(0, 0), (1, 1), (2, 2)]


def refuse(number):
    return DataError(f"{number} is broken", hint="mend it")


def test_errors_that_are_outcomes_come_back_with_their_hints():
    found = dict(outcomes(refuse, range(2), 2))
    assert [(found[number].message, found[number].hint) for number in range(2)] == [
        ("0 is broken", "mend it"),
        ("1 is broken", "mend it"),
    ]
