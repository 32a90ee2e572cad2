"""One task for many cases, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ctsynth.errors import RunError

MOST_WORKERS = 8

Case = TypeVar("Case")
Outcome = TypeVar("Outcome")


def cores() -> int:
    """The cores that this process may use, where the system says so; else the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def outcomes(
    task: Callable[[Case], Outcome], cases: Sequence[Case], workers: int | None
) -> Generator[tuple[Case, Outcome], None, None]:
    """Runs a task on each case and yields both, in the order in which the cases are done.

    If it is closed early, or a task fails, the cases in progress are finished and the others dropped.

    Args:
        task: What to do; it is pickled, and so are the cases.
        cases: What to do it with.
        workers: Processes; the machine's cores, at most 8, if None. 1 works in this process.

    Raises:
        RunError: A process was killed.
    """
    workers = min(workers or min(cores(), MOST_WORKERS), len(cases))
    if workers <= 1:
        for case in cases:
            yield case, task(case)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy other threads' locks as they are
    pool = ProcessPoolExecutor(workers, context, _begin)
    try:
        futures: dict[Future[Outcome], Case] = {pool.submit(task, case): case for case in cases}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process was killed, most likely because memory ran out",
            hint="run the same command again with fewer `workers`: finished work is kept",
        ) from error
    except KeyboardInterrupt:  # a second Ctrl-C
        pool.shutdown(wait=False)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ignores signals, which the parent handles, and does not outlive it: the case in progress is finished."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
