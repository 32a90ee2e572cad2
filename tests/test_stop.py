import os
import signal

import pytest

from ctsynth.stop import SIGNALS, Stop, Stopped


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_the_old_handler_comes_back(number):
    before = signal.getsignal(number)
    with Stop() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested is number
    assert signal.getsignal(number) is before


def test_interruptible_work_breaks_off_at_once_and_other_work_does_not():
    done = []
    with Stop() as stop:
        with pytest.raises(Stopped), stop.interruptible():  # noqa: PT012  how far it comes is the point
            done.append("begun")
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("ended")
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("went on")
        with pytest.raises(Stopped), stop.interruptible():
            done.append("not begun")
    assert done == ["begun", "went on"]
