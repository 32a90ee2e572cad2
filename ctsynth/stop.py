"""SIGTERM and SIGUSR1 mean: save and stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ctsynth.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Sent by SLURM on preemption, and before the time limit with ``--signal``."""


class Stopped(Exception):  # noqa: N818  not an error
    """Raised inside ``Stop.interruptible`` when a signal arrives there."""


class Stop:
    """Whether to stop; a context manager while which the signals are caught."""

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._raise = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)
        if self._raise:
            raise Stopped

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work that may be broken off anywhere, such as drawing a sample sheet.

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
            assert stop.requested is not None
            raise Interrupted(
                f"stopped by {stop.requested.name}", hint="run the same command again: what is whole is kept"
            ) from None
