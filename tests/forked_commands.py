"""``ctsynth`` commands without the seconds that importing torch takes: each a fork of a server that has imported.

A command, and each of its ranks, is a process of its own with the command line's own code, exit code and signals;
only the interpreter's start is left out. The server computes nothing, so that there is no thread to lose.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from ctsynth.cli.app import main
from ctsynth.training import launch

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(
    [
        "pytest", "ctsynth.cli.app", "ctsynth.training.run", "ctsynth.figures", "torch._dynamo",
        "torch.distributed.tensor", "matplotlib.backends.backend_agg", "numpy.random", "PIL.PngImagePlugin",
        "rich.console",
    ]
)  # fmt: skip


def start(words: Sequence[object], folder: Path, plant: Callable[[], None] | None = None):
    """Starts a command in a folder, in which ``out`` and ``err`` are what it says.

    Args:
        words: Of the command, without ``ctsynth``.
        folder: Where.
        plant: Called at the start of each rank: the fault to plant there; a function of a module.
    """
    process = server.Process(
        target=_command, args=([str(word) for word in words], folder, dict(os.environ), plant)
    )
    process.start()
    return process


def ranks(pid: int) -> list[int]:
    """The processes that a command has started, in order."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(words: list[str], folder: Path, env: dict[str, str], plant: Callable[[], None] | None) -> None:
    for number, name in enumerate(("out", "err"), start=1):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)

    launch.subprocess = SimpleNamespace(Popen=partial(_Fork, plant))
    sys.argv = ["ctsynth", *words]
    main()


class _Fork:
    """What the launcher uses of subprocess.Popen."""

    def __init__(self, plant: Callable[[], None] | None, command: Sequence[str], env: dict[str, str]) -> None:
        assert list(command[1:3]) == ["-m", "ctsynth"]
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        os.environ.update(env)
        sys.argv = ["ctsynth", *command[3:]]
        code = 1
        try:
            if plant is not None:
                plant()
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def poll(self, options: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int | None:
        return self.poll(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # else its number may be another process's
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
