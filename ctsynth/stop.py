"""SIGTERM, SIGUSR1 and Ctrl-C mean: save and stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ctsynth.errors import Interrupted, InterruptedByUser

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""SLURM sends the first two on preemption, and before the time limit with ``--signal``; the last is Ctrl-C."""

_WHILE_LEAVING = {signal.SIGTERM: signal.SIG_IGN, signal.SIGUSR1: signal.SIG_IGN, signal.SIGINT: signal.SIG_DFL}
"""What signals do between the work's end and the process's: a second SIGTERM must not replace the exit code 75."""

_NOTICE = b"\nCtrl-C: stopping when the current work is saved; a second Ctrl-C stops at once\n"


class Stopped(BaseException):  # which no ``except Exception`` swallows
    """Raised inside ``Stop.interruptible`` when a signal arrives there."""


class Stop:
    """Whether to stop; a context manager while which the signals are caught.

    The first signal asks to stop. Further ones change nothing, so that the save is finished, but a second Ctrl-C
    raises ``KeyboardInterrupt``. Once a signal has come, the context ends with the process: its handlers are
    not taken back.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._raise = self._interrupted = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._caught:  # else a context within this one has stopped
                signal.signal(number, _WHILE_LEAVING[number] if self.requested else handler)  # type: ignore[arg-type]

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third does not wait for what ``finally`` does
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        if number == signal.SIGINT and "RANK" not in os.environ:  # whose launcher says it
            with suppress(OSError):
                os.write(2, _NOTICE)  # sys.stderr may be in the middle of a line: it refuses a second writer
        if self.requested:
            return
        self.requested = signal.Signals(number)
        if self._raise:
            raise Stopped

    def interrupted(self, message: str, hint: str) -> Interrupted:
        """The error to leave with, once a signal has come.

        Args:
            message: ``SIGNAL`` in it becomes the signal's name.
            hint: How to go on.
        """
        assert self.requested is not None
        kind = InterruptedByUser if self.requested is signal.SIGINT else Interrupted
        return kind(message.replace("SIGNAL", self.requested.name, 1), hint=hint)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work that may be interrupted anywhere, such as drawing a sample sheet.

        Raises:
            Stopped: A signal has arrived.
        """
        self._raise = True
        try:
            if self.requested:
                raise Stopped
            yield
        finally:
            self._raise = False


@contextmanager
def stoppable() -> Iterator[None]:
    """Work made of pieces that are whole or absent: a signal breaks it off.

    Raises:
        Interrupted: A signal arrived.
    """
    with Stop() as stop:
        try:
            with stop.interruptible():
                yield
        except Stopped:
            raise stop.interrupted(
                "stopped by SIGNAL", "run the same command again: finished work is kept"
            ) from None
