"""What can go wrong for a reason that the user can mend: one message, one hint, one exit code."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ctsynth import __version__


def shortened(names: Iterable[str], most: int = 8) -> str:
    """The first names of many, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class CTSynthError(Exception):
    """An error that is shown as one or two lines, without a traceback.

    A setting stands in backticks, by its name in Python; the command line shows its option instead.

    Args:
        message: Which file or option, what was found, what was wanted; lower case, no full stop.
        hint: What to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:  # crosses process borders with its hint
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[CTSynthError], message: str, hint: str | None) -> CTSynthError:
    return kind(message, hint=hint)


class UsageError(CTSynthError):
    """A command line or a configuration that cannot be meant."""

    exit_code = 2


class DataError(CTSynthError):
    """A file that cannot be used as it is."""

    exit_code = 2


class RunError(CTSynthError):
    """Work that was begun in good faith and failed: no space left, a loss not finite, subjects that broke."""

    exit_code = 1


class WriteError(RunError):
    """A file cannot be written, and so no other can: it stops the work, as an error of one subject does not."""


class Interrupted(CTSynthError):  # noqa: N818  the work is saved, nothing went wrong
    """SIGTERM or SIGUSR1 arrived and the work was saved: run the same command again to go on."""

    exit_code = 75


class InterruptedByUser(Interrupted):
    """Ctrl-C was pressed and the work was saved."""

    exit_code = 130


class BugError(CTSynthError):
    """An exception that no file and no option should be able to cause: ours to mend."""


@contextmanager
def about(source: object) -> Iterator[None]:
    """Names the file that what is done here comes from in every message that does not."""
    try:
        yield
    except CTSynthError as error:
        if error.message.startswith(f"{source}"):
            raise
        raise type(error)(f"{source}: {error.message}", hint=error.hint) from error


def explain(error: Exception, doing: str) -> CTSynthError:
    """The message for any exception that ended a piece of work.

    Args:
        error: Returned as it is where it is a ``CTSynthError``.
        doing: What was being done, such as ``sample: reading seg.nii.gz``.
    """
    if isinstance(error, CTSynthError):
        return error
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename is not None else ""
        hint = "raise the limit of open files: ulimit -n 4096" if is_out_of_files(error) else None
        return RunError(f"{doing}: {file}{error.strerror or error}", hint=hint)
    if is_out_of_memory(error):
        return RunError(
            f"{doing}: not enough memory",
            hint="do less at once (`batch_size`, `chunk`, `workers`), or use a machine that has more",
        )
    reason = next(iter(str(error).splitlines()), "")
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return RunError(f"{doing}: torch.compile failed: {reason}", hint="say `no_compile`")
    return BugError(
        f"{doing}: this is a bug in ctsynth {__version__}, please report it: "
        f"{type(error).__name__}: {reason}{_place(error)}",
        hint="run it again as `ctsynth --verbose ...` and send the traceback with the output of `ctsynth info`",
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch and the loader of libraries have words of their own for that."""
    known = ("can't allocate memory", "cannot allocate memory", "failed to map segment")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError | ImportError) and any(words in str(error).lower() for words in known))
    )


def is_out_of_files(error: Exception) -> bool:
    """Whether the process, or the machine, has as many files open as it may."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _place(error: Exception) -> str:
    package = Path(__file__).parent
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if package in Path(frame.filename).parents
    ]
    return f" ({Path(frames[-1].filename).relative_to(package)}:{frames[-1].lineno})" if frames else ""
