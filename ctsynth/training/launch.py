"""Several ranks on this machine: the same command once a rank, with torchrun's variables."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ctsynth.data.workers import cores
from ctsynth.errors import Interrupted, InterruptedByUser, RunError
from ctsynth.stop import SIGNALS, Stop

STOP_TIMEOUT = 60.0
"""Seconds that the other ranks get to leave when one has left in order."""

IN_ORDER = (0, Interrupted.exit_code, InterruptedByUser.exit_code)


def launch(command: Sequence[str], ranks: int, stop: Stop) -> int:
    """Runs a ``ctsynth`` command on several ranks and returns its exit code.

    A signal is passed to every rank. A rank that dies takes the others down at once.

    Args:
        command: Its words, without ``ctsynth``.
        ranks: How many.
        stop: Tells when to stop.

    Raises:
        RunError: A rank was killed, or left with an error that it has shown itself.
        Interrupted: A signal came before the ranks had begun.
    """
    with _ranks(command, ranks) as processes:
        left: list[int | None] = [None] * ranks
        deadline = float("inf")
        forwarded = False
        while None in left and time.monotonic() < deadline:
            time.sleep(0.05)
            if stop.requested and not forwarded:
                _forward(stop.requested, processes)
                forwarded = True
            left = [process.poll() for process in processes]
            if any(code not in (None, *IN_ORDER) for code in left):
                break
            if any(code is not None for code in left):
                deadline = min(deadline, time.monotonic() + STOP_TIMEOUT)
    if stop.requested and {-number for number in SIGNALS} & set(left):
        raise stop.interrupted("stopped by SIGNAL before the first step", "start it again")
    for rank, code in enumerate(left):
        if code is not None and code < 0:
            raise RunError(
                f"rank {rank} of {ranks} was killed by {signal.Signals(-code).name}: stopped the others",
                hint="the same command continues from the last checkpoint",
            )
    codes = [code for code in left if code is not None]
    failed = [code for code in codes if code not in IN_ORDER]
    if len(codes) < ranks and not failed:
        raise RunError(f"{ranks - len(codes)} of {ranks} ranks did not stop within {STOP_TIMEOUT:.0f} s: killed")
    if max(codes) and not failed and stop.requested is signal.SIGINT:
        return InterruptedByUser.exit_code
    return failed[0] if failed else max(codes)


def _forward(number: signal.Signals, processes: list[subprocess.Popen[bytes]]) -> None:
    """Passes a signal on; Ctrl-C as SIGTERM, for a terminal's has reached the ranks, and a second kills them."""
    number = signal.SIGTERM if number is signal.SIGINT else number
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


@contextmanager
def _ranks(command: Sequence[str], ranks: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes; whatever happens, none is left behind."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
    with ExitStack() as stack:
        processes = []
        for rank in range(ranks):
            env = {"OMP_NUM_THREADS": str(max(1, cores() // ranks)), **os.environ, **common}
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = subprocess.Popen([sys.executable, "-m", "ctsynth", *command], env=env)
            stack.callback(_end, process)
            processes.append(process)
        yield processes


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()  # files appear whole or not at all: nothing is lost
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
