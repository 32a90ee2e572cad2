"""A process of its own that makes attempts: one that kills it is known by its index, and the rest goes on."""

from __future__ import annotations

import faulthandler
import gc
import logging
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from .attempts import BYTES, Attempt, attempt
from .watch import Watch
from .world import World

WAIT = 300.0
"""Seconds after which a process that does not come back, even from C, is ended."""


EACH = 10_000
"""Attempts of one process, so that what little each leaves in its memory does not add up."""


def attempts(seed: int, indices: Iterable[int]) -> Iterator[Attempt]:
    """Makes these attempts one after the other, in as many processes as it takes.

    Args:
        seed: Of all mutations.
        indices: Which of them.
    """
    left = list(indices)
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    context = multiprocessing.get_context("spawn")
    while left:
        with tempfile.TemporaryDirectory(prefix="ctsynth-fuzz-", dir=in_memory) as folder:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(theirs, Path(folder), seed, left[:EACH]), daemon=True)
            process.start()
            theirs.close()
            ours.recv()  # it is ready; an end before this is no file's fault
            try:
                for _ in left[:EACH]:
                    yield ours.recv()
                    left.pop(0)
            except EOFError:
                process.join()
                yield Attempt(left.pop(0), "", "", f"died with {process.exitcode}", "", 0.0, 0)
            process.join()


def _work(connection: Connection, folder: Path, seed: int, indices: list[int]) -> None:
    root = folder / "a" / "b" / "c"  # from which ../../x still leads into the folder
    _shut_off(root)
    world = World(root)
    watch = Watch(world.out, world.scratch)
    gc.collect()
    gc.freeze()  # or the collection after each attempt looks through every module that is loaded
    _limit_memory()
    connection.send("ready")
    for index in indices:
        faulthandler.dump_traceback_later(WAIT, exit=True)
        connection.send(attempt(world, watch, seed, index))
    faulthandler.cancel_dump_traceback_later()


def _shut_off(root: Path) -> None:
    """Neither weights nor settings of this machine are found, and logging is off."""
    os.environ["CTSYNTH_WEIGHTS"] = os.pathsep.join(str(root / name / "weights") for name in ("out", "in"))
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "TOTALSEG_HOME_DIR", "MPLCONFIGDIR"):
        os.environ[name] = str(root / "home")
    os.environ["COLUMNS"], os.environ["TMPDIR"] = "100", str(root / "scratch")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(root / "home")  # torch makes this folder when it optimizes
    logging.lastResort = None


def _limit_memory() -> None:
    """What would take more than an attempt may have fails instead of taking it from the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, resource.RLIM_INFINITY))
