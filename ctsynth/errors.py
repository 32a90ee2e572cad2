"""What can go wrong for a reason that the user can mend: one message, one hint, one exit code."""

from __future__ import annotations


class CTSynthError(Exception):
    """An error that is shown as one or two lines, without a traceback.

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


class Interrupted(CTSynthError):  # noqa: N818  the work is saved, nothing went wrong
    """SIGTERM or SIGUSR1 arrived and the work was saved: run the same command again to go on."""

    exit_code = 75
