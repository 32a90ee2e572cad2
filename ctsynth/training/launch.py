"""Several ranks on this machine: the same command once a rank, told by torchrun's variables who it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

from ctsynth.errors import RunError
from ctsynth.stop import SIGNALS

PATIENCE = 60.0
"""Seconds that the other ranks get to leave when one has left in order."""

REQUEUE = 75


def launch(command: Sequence[str], ranks: int) -> int:
    """Runs a ``ctsynth`` command on several ranks and returns its exit code.

    SIGTERM and SIGUSR1 go to every rank. A rank that dies takes the others down at once.

    Args:
        command: Its words, without ``ctsynth``.
        ranks: How many.

    Raises:
        RunError: A rank was killed, or left with an error that it has shown itself.
    """
    with _ranks(command, ranks) as processes, _forwarding(processes):
        left: list[int | None] = [None] * ranks
        deadline = float("inf")
        while None in left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [process.poll() for process in processes]
            if any(code not in (None, 0, REQUEUE) for code in left):
                break
            if any(code is not None for code in left):
                deadline = min(deadline, time.monotonic() + PATIENCE)
    for rank, code in enumerate(left):
        if code is not None and code < 0:
            raise RunError(
                f"rank {rank} of {ranks} was killed by {signal.Signals(-code).name}: stopped the others",
                hint="the same command continues from the last checkpoint",
            )
    codes = [code for code in left if code is not None]
    if len(codes) < ranks and not any(code not in (0, REQUEUE) for code in codes):
        raise RunError(f"{ranks - len(codes)} of {ranks} ranks did not stop within {PATIENCE:.0f} s: killed")
    return next((code for code in codes if code not in (0, REQUEUE)), max(codes))


@contextmanager
def _ranks(command: Sequence[str], ranks: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes; whatever happens, none is left behind."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
    with ExitStack() as stack:
        processes = []
        for rank in range(ranks):
            env = {"OMP_NUM_THREADS": str(max(1, cores // ranks)), **os.environ, **common}
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


@contextmanager
def _forwarding(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Passes signals on; Ctrl-C reaches the ranks by itself."""

    def forward(number: int, _frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
