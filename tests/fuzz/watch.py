"""What a process does to the machine: the paths it writes to; processes, sockets and pickled names it asks for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = {
    "os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.rename": (0, 1), "os.link": (1,),
    "os.symlink": (1,), "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
}  # fmt: skip
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.",
    "pickle.find_class",
)


class Watch:
    """Notes what is done while it is on. There is one a process, for Python takes an audit hook for good.

    Args:
        allowed: Folders that may be written to.
    """

    def __init__(self, *allowed: Path) -> None:
        self._allowed = tuple(f"{folder.resolve()}/" for folder in allowed)
        self._on = False
        self._seen: list[str] = []
        sys.addaudithook(self._audit)

    @contextmanager
    def on(self) -> Iterator[list[str]]:
        """Yields a list that what must not be done is added to."""
        self._seen, self._on = [], True
        try:
            yield self._seen
        finally:
            self._on = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open":
            path, mode, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND) or "w" in str(mode or ""):
                self._note(path, None)
        elif event in _WRITES:
            folders = [n for n in arguments[len(_WRITES[event]) :] if isinstance(n, int)][-1:]
            for number in _WRITES[event]:
                self._note(arguments[number], folders[0] if folders else None)
        elif event.startswith(_FORBIDDEN):
            self._seen.append(f"{event} {arguments}"[:200])

    def _note(self, path: Any, folder: int | None) -> None:
        if isinstance(path, int):
            return
        base = f"/proc/self/fd/{folder}" if folder is not None and folder >= 0 else "."
        whole = os.path.realpath(Path(base).resolve() / os.fsdecode(path))
        if whole != "/dev/null" and not f"{whole}/".startswith(self._allowed):
            self._seen.append(whole)
