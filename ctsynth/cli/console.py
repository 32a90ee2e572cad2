"""What people see: results on stdout, everything else on stderr."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Protocol, TextIO

import typer

from ctsynth.errors import RunError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ctsynth.errors import CTSynthError

PLAIN_INTERVAL = 30.0
"""Seconds between two progress lines where stderr is no terminal, as in a SLURM log."""

log = logging.getLogger("ctsynth")


class Progress(Protocol):
    """How far the work is: called with the number done so far, and with a few words on the latest of it."""

    def __call__(self, done: int, note: str = "") -> None:
        """Shows how much is done."""


def stderr() -> Console:
    """A rich console on stderr; it honours NO_COLOR and knows whether it is a terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def echo(text: str = "") -> None:
    """Prints a line of the result to stdout.

    Raises:
        RunError: It cannot be written, as on a full disk.
    """
    with _result():
        typer.echo(text)


def width() -> int | None:
    """Columns of the terminal that stdout is; None where it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def echo_table(table: Table) -> None:
    """Prints a table of the result to stdout, 80 columns wide.

    Raises:
        RunError: As ``echo``.
    """
    from rich.console import Console

    with _result():
        Console(width=80, soft_wrap=False, markup=False, emoji=False).print(table)


def say(text: str) -> None:
    """Prints a line to stderr; where that cannot be written, the work continues without."""
    try:
        typer.echo(text, err=True)
    except OSError:
        _discard(sys.stderr)


def show(error: CTSynthError) -> None:
    """Prints an error and its hint to stderr, a line each."""
    message, hint = with_options(error.message), with_options(error.hint or "")
    try:
        from rich.text import Text

        console = stderr()
        console.print("[bold red]error:[/]", Text(message))
        if hint:
            console.print("[cyan] hint:[/]", Text(hint))
    except OSError:
        _discard(sys.stderr)
    except (MemoryError, ImportError):  # too little memory for rich itself
        say(f"error: {message}")


def with_options(text: str) -> str:
    """A message of the library, whose settings in backticks become options: ``--batch-size`` for `batch_size`."""
    return re.sub("`([a-z][a-z0-9_]*)`", lambda setting: f"--{setting[1].replace('_', '-')}", text)


def mend_streams() -> None:
    """Opens standard streams that came closed on /dev/null: else a file of the work would become stderr.

    Names of files that are no UTF-8 are printed with the bytes that they have.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            while os.open(os.devnull, os.O_RDWR) < number:  # takes the lowest number that is free
                pass
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    if isinstance(sys.stdout, TextIOWrapper):
        is_utf8 = sys.stdout.encoding.lower() == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


@contextmanager
def _result() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # as with `| head`: the reader has enough
        raise
    except OSError as error:
        _discard(sys.stdout)
        raise RunError(f"stdout: cannot write the result: {error.strerror}") from error


def _discard(stream: TextIO) -> None:
    """Sends what could not be written, and what may follow, to /dev/null; Python's exit would fail on it again."""
    with suppress(OSError):  # a test's stream has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_verbose() -> bool:
    """Whether --verbose was given."""
    return log.isEnabledFor(logging.DEBUG)


def configure(*, verbose: bool, quiet: bool) -> None:
    """Sends log records to stderr: warnings always, information unless quiet, debugging if verbose."""
    handler = _Handler()
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    log.propagate = False


class _Handler(logging.Handler):
    """Shows each message once: eight samples of one mask lack the same labels."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = with_options(record.getMessage())
        if text in self._shown:
            return
        self._shown.add(text)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        say(text)


@contextmanager
def progress(what: str, total: int) -> Iterator[Progress]:
    """A progress bar with rate and time left on a terminal; a plain line every 30 s elsewhere; nothing if quiet.

    Args:
        what: A word or two before the bar.
        total: The number at which the work is done.
    """
    if log.getEffectiveLevel() > logging.INFO:
        yield lambda done, note="": None
    elif sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        yield _plain(what, total)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Bar(*columns, console=stderr()) as bar:
        task = bar.add_task(what, total=total, note="", rate="")
        rate = _Rate()

        def advance(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note, rate=f"{rate(done):.2g}/s" if rate(done) else "")

        yield advance


def _plain(what: str, total: int) -> Progress:
    last = time.monotonic()
    rate = _Rate()

    def advance(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        speed = rate(done)
        if now - last < PLAIN_INTERVAL and done < total:
            return
        last = now
        left = f", {speed:.2g}/s, {(total - done) / speed:.0f} s left" if speed and done < total else ""
        say(f"{what}: {done}/{total}{left}{', ' + note if note else ''}")

    return advance


class _Rate:
    """How many a second, counted from the first call: what an earlier run did is no speed of this one."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int) -> float:
        self.first = done if self.first is None else self.first
        return (done - self.first) / max(time.monotonic() - self.started, 1e-9)
