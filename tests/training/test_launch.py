"""What the launcher makes of how its ranks leave; the ranks themselves are in test_faults.py."""

import signal
from types import SimpleNamespace

import pytest

from ctsynth.errors import Interrupted, InterruptedByUser, RunError
from ctsynth.stop import Stop
from ctsynth.training import launch


@pytest.fixture
def ranks(monkeypatch):
    """Makes ranks that leave with these codes, at once or when a signal comes; gives the signals they got."""
    got = []

    def make(*codes, on_signal):
        left = iter(codes)

        class Rank:
            def __init__(self, *_, **__):
                self.code, self.returncode = next(left), None
                self.signaled = not on_signal

            def poll(self):
                return self.code if self.signaled else None

            def send_signal(self, number):
                got.append(number)
                self.signaled = True

            def wait(self):
                pass

            kill = wait

        monkeypatch.setattr(launch, "subprocess", SimpleNamespace(Popen=Rank))
        return got

    return make


def stopped_by(number):
    stop = Stop()
    stop.requested = number
    return stop


@pytest.mark.parametrize(
    ("number", "forwarded", "codes", "code"),
    [
        (signal.SIGTERM, signal.SIGTERM, (75, 75), 75),
        (signal.SIGUSR1, signal.SIGUSR1, (75, 75), 75),
        (signal.SIGINT, signal.SIGTERM, (75, 75), 130),  # a terminal's Ctrl-C has reached the ranks before
        (signal.SIGINT, signal.SIGTERM, (130, 130), 130),
        (signal.SIGINT, signal.SIGTERM, (0, 0), 0),
        (signal.SIGINT, signal.SIGTERM, (130, 1), 1),
    ],
)
def test_a_signal_goes_to_every_rank_once_and_the_exit_code_is_its_own(ranks, number, forwarded, codes, code):
    got = ranks(*codes, on_signal=True)
    assert launch.launch(["train"], 2, stopped_by(number)) == code
    assert got == [forwarded] * 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize("killed", [-signal.SIGTERM, -signal.SIGINT])
def test_ranks_that_had_no_handlers_yet_are_no_failure(ranks, number, code, killed):
    ranks(killed, killed, on_signal=True)
    with pytest.raises(Interrupted, match=f"stopped by {number.name} before the first step") as left:
        launch.launch(["train"], 2, stopped_by(number))
    assert left.value.exit_code == code
    assert isinstance(left.value, InterruptedByUser) == (code == 130)


def test_a_rank_that_somebody_else_kills_is_one(ranks):
    ranks(-signal.SIGTERM, 0, on_signal=False)
    with pytest.raises(RunError, match="rank 0 of 2 was killed by SIGTERM"):
        launch.launch(["train"], 2, Stop())
