"""One attempt: mutate a file, let its reader read it, see what came of it and what it touched."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from random import Random
from unittest.mock import patch

from typer.testing import CliRunner

from ctsynth.augment import records
from ctsynth.cli.app import app
from ctsynth.errors import BugError, CTSynthError, explain

from .mutations import mutate
from .targets import TARGETS, Target
from .values import NAMES, OUTSIDE, as_json
from .watch import Watch
from .world import World

SECONDS = 10.0
"""CPU time that an attempt may take."""

BYTES = 2 << 30
"""Memory that the process may have resident."""

DONE, REFUSED = "done", "refused"
"""The two good ends: the file was used, or an error said what is wrong with it."""

HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that Python shows nobody."""


@dataclass(frozen=True)
class Attempt:
    """What came of one mutated file.

    Args:
        index: With the seed it says which mutation this was.
        target: Who read it.
        file: Which file was mutated.
        outcome: ``done``, ``refused``, or what went wrong.
        detail: A message, or a traceback.
        seconds: CPU time.
        peak: The process's largest resident memory meanwhile, bytes.
    """

    index: int
    target: str
    file: str
    outcome: str
    detail: str
    seconds: float
    peak: int

    @property
    def is_good(self) -> bool:
        """Whether the file was used or refused."""
        return self.outcome in (DONE, REFUSED)


class _Slow(BaseException):
    """Raised in a reader that has had its time."""


def attempt(world: World, watch: Watch, seed: int, index: int) -> Attempt:
    """Makes the attempt of this seed and index; nothing of it is left in the world.

    Below zero, the index is that of a target in the list of all, and its file is left as it is.
    """
    rng = Random(f"{seed}/{index}")
    name = target_of(rng) if index >= 0 else [*TARGETS][index]
    target, change = TARGETS[name], mutate if index >= 0 else _as_it_is
    for folder in target.copies:
        shutil.copytree(world.inputs / folder, world.out / folder)
    is_renamed = target.renamed and index >= 0
    with _renamed(target, rng) if is_renamed else _changed(target, world, rng, change) as file:
        before = _listing(world.inputs)
        _forget_peak()
        start = time.process_time()
        with watch.on() as touched:
            outcome, detail = judge(target, file, SECONDS)
        seconds, peak = time.process_time() - start, _peak()
        if _listing(world.inputs) != before:
            touched.append("in")
        touched += [OUTSIDE] * os.path.lexists(OUTSIDE) + [str(path) for path in world.scratch.iterdir()]
    world.clear()
    shutil.rmtree(OUTSIDE, ignore_errors=True)
    if touched:
        outcome, detail = "outside", "\n".join([*touched, detail])
    elif outcome == "slow" or seconds > SECONDS:
        outcome = DONE if target.works else "slow"
    elif peak > BYTES:
        outcome = "memory"
    return Attempt(index, name, file.as_posix(), outcome, detail, seconds, peak)


def _as_it_is(rng: Random, name: str, content: bytes) -> bytes:
    return content


def target_of(rng: Random) -> str:
    """The name of the target that a fresh generator of an attempt draws."""
    return rng.choices([*TARGETS], [target.share for target in TARGETS.values()])[0]


@contextmanager
def _renamed(target: Target, rng: Random) -> Iterator[Path]:
    """The files, which lie in OUT, under a name that is drawn; under their own if there can be no such name."""
    name = rng.choice(NAMES)
    for path in map(Path, target.files):
        file = path.with_name(name + "".join(path.suffixes))
        with suppress(OSError):
            path.rename(file)
    yield file


@contextmanager
def _changed(
    target: Target, world: World, rng: Random, change: Callable[[Random, str, bytes], bytes]
) -> Iterator[Path]:
    """A file mutated; half of the time the hashes that others keep of it are made to fit."""
    pattern = rng.choice(target.files)
    file = Path(rng.choice(sorted(path.as_posix() for path in Path().glob(pattern) if path.is_file())))
    old = file.read_bytes()
    new = change(rng, file.name, old)
    kept = {file: old}
    if rng.random() < 0.5:
        new = _resealed(new) if file.name == records.NAME else _unsealed(new)
        kept |= _vouched(world, old, new)
    file.write_bytes(new)
    try:
        yield file
    finally:
        for path, content in kept.items():
            if path.parent.is_dir():  # OUT is emptied in any case
                path.write_bytes(content)


def _vouched(world: World, old: bytes, new: bytes) -> dict[Path, bytes]:
    then, now = (hashlib.sha256(content).hexdigest().encode() for content in (old, new))
    found = {path: path.read_bytes() for path in sorted(world.root.rglob("*.json"))}
    found = {path: content for path, content in found.items() if then in content}
    for path, content in found.items():
        path.write_bytes(_unsealed(content.replace(then, now)))
    return found


def _unsealed(content: bytes) -> bytes:
    """A config.json without the hash of itself, as one of an earlier version; any other file as it is."""
    if b'"config.json": "' not in content:
        return content
    try:
        tree = json.loads(content)
        del tree["sha256"]["config.json"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return content
    return as_json(tree)


def _resealed(content: bytes) -> bytes:
    """A result.json with the hash of what it now says."""
    try:
        tree = json.loads(content)
        tree["sha256"] = records._digest(tree)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content
    return as_json(tree)


def judge(target: Target, file: Path, seconds: float) -> tuple[str, str]:
    """Lets a target read a file, for so many seconds of CPU time; what came of it, and what was said."""
    signal.signal(signal.SIGPROF, _ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            outcome, said = _command(target, file) if target.read is None else _read(target, file)
        shown = [str(one) for one in warned if not issubclass(one.category, HIDDEN)]
        return ("warning", "\n".join(shown)) if shown and outcome in (DONE, REFUSED) else (outcome, said)
    except _Slow:
        return "slow", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _ring(number: int, frame: object) -> None:
    raise _Slow


def _read(target: Target, file: Path) -> tuple[str, str]:
    assert target.read is not None
    try:
        with redirect_stderr(StringIO()):
            target.read(file)
    except Exception as error:
        return _judged(error)
    return DONE, ""


def _command(target: Target, file: Path) -> tuple[str, str]:
    words = [str(word).replace("{file}", file.as_posix()) for word in target.words]
    caught: list[Exception] = []

    def explained(error: Exception, doing: str) -> CTSynthError:
        caught.append(error)
        return explain(error, doing)

    with patch("ctsynth.cli.app.explain", explained):
        done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return "traceback", "".join(traceback.format_exception(done.exception))
    if done.exit_code not in (0, 1, 2):
        return f"exit code {done.exit_code}", done.output
    if done.exit_code and "error:" not in done.stderr:
        return "silent", done.output
    return _judged(caught[0]) if caught else (DONE, done.stderr)


def _judged(error: Exception) -> tuple[str, str]:
    """What the command line makes of an error: a message for the user, a bug, or want of memory."""
    shown = explain(error, "reading")
    if isinstance(shown, BugError):
        return "bug", "".join(traceback.format_exception(error))
    if "not enough memory" in shown.message:
        return "memory", "".join(traceback.format_exception(error))
    return REFUSED, shown.message


def _listing(folder: Path) -> list[tuple[str, int, int, int]]:
    """Every file below a folder, with what changes when it is written to."""
    found = []
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found += _listing(Path(entry.path))
        status = entry.stat(follow_symlinks=False)
        found.append((entry.path, status.st_size, status.st_mtime_ns, status.st_ino))
    return found


def _forget_peak() -> None:
    """Begins a new peak, without what an earlier attempt has left."""
    if _peak() > BYTES // 4:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
