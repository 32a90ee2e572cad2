"""Runs a module's tests once for each change of it: one process imports and collects, each run is a fork of it."""

from __future__ import annotations

import importlib
import math
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from .changes import Change, changes
from .plant import plant
from .targets import TARGETS

TESTS = Path(__file__).parents[1]
WAIT = 60
"""Seconds on the clock for each that a trial may take of the CPU."""


@dataclass(frozen=True)
class Outcome:
    """What has become of a change.

    Args:
        name: Of the change.
        line: Where it is.
        killer: The test that failed, or ``time``, or ``crash``; None where none did.
        tests: How many call what was changed.
    """

    name: str
    line: int
    killer: str | None
    tests: int


@dataclass
class Seen:
    """What a run without any change has shown.

    Attributes:
        tests: By function, the tests that call it.
        seconds: Of each test.
        failed: Tests that fail by themselves.
        modules: What they import late: a second of every run, if it were left to them.
    """

    tests: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    modules: list[str] = field(default_factory=list)


def trial(module: str, share: float, seed: int) -> list[Outcome]:
    """Changes a module; once a process, for pytest collects once.

    Args:
        module: Of ``TARGETS``.
        share: Of all its changes.
        seed: Chooses them.

    Raises:
        RuntimeError: A test fails without any change.
    """
    target, whole = TARGETS[module], importlib.import_module(f"ctsynth.{module}")
    every = list(changes(Path(str(whole.__file__)).read_text(encoding="utf-8")))
    if target.functions:
        every = [change for change in every if change.function.startswith(target.functions)]
    plugin = _Trial(whole, Random(seed).sample(every, round(share * len(every))))
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-s", "--disable-warnings"]
    pytest.main([*options, *(str(TESTS / name) for name in target.tests)], plugins=[plugin])
    if plugin.error:
        raise RuntimeError(f"{module}: {plugin.error}")
    return plugin.outcomes


class _Trial:
    def __init__(self, module: ModuleType, changes: list[Change]) -> None:
        self.module, self.changes = module, changes
        self.outcomes: list[Outcome] = []
        self.error = "nothing was collected"

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        seen = _forked(lambda: _observe(session, str(self.module.__file__)), limit=600)
        if not isinstance(seen, Seen) or seen.failed:
            self.error = f"without any change: {seen.failed if isinstance(seen, Seen) else seen}"
            return True
        self.error = ""
        _import(seen.modules)
        items = {item.nodeid: item for item in session.items}
        for change in self.changes:
            names = seen.tests[change.function] if change.function else set(items)
            chosen = sorted(names, key=lambda name: seen.seconds[name])
            limit = 10 + math.ceil(5 * sum(seen.seconds[name] for name in chosen))
            killer = _forked(lambda c=change, n=chosen: _try(self.module, c, [items[name] for name in n]), limit)
            self.outcomes.append(Outcome(change.name, change.line, killer, len(chosen)))
        return True


def _forked(work: Callable[[], Any], limit: int) -> Any:
    """What ``work`` returns in a fork of this process.

    Args:
        work: Done in the fork.
        limit: CPU seconds: on a busy machine a clock would stop what is not slow.

    Returns:
        Also ``time`` if it took longer, and ``crash`` if it ended the process.
    """
    with tempfile.NamedTemporaryFile() as file:
        pid = os.fork()
        if not pid:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
                _silence()
                Path(file.name).write_bytes(pickle.dumps(work()))
            finally:
                os._exit(0)
        end = time.monotonic() + WAIT * limit
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > end:  # it waits for something, and uses no CPU
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        content = Path(file.name).read_bytes()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
            return "time"
        return pickle.loads(content) if content else "crash"


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _try(module: Any, change: Change, items: list[pytest.Item]) -> str | None:
    """The first test that fails with the change."""
    plant(module, change)
    for item, following in zip(items, [*items[1:], None], strict=True):
        if not _passes(item, following):
            return item.nodeid
    return None


def _passes(item: pytest.Item, following: pytest.Item | None) -> bool:
    failed = []

    class Listener:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            failed.append(report.failed)

    listener = Listener()
    item.config.pluginmanager.register(listener)
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    item.config.pluginmanager.unregister(listener)
    return not any(failed)


def _observe(session: pytest.Session, file: str) -> Seen:
    """Runs every test and notes which functions of the file it calls; what a shared fixture calls, all do."""
    seen, called, shared = Seen(), set[str](), defaultdict(set)
    imported = set(sys.modules)

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename == file:
            called.add(frame.f_code.co_qualname.split(".<locals>")[0])

    class Fixtures:
        @pytest.hookimpl(wrapper=True)
        def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
            before = set(called)
            called.clear()
            try:
                return (yield)
            finally:
                if fixturedef.scope != "function":
                    shared[request.node.nodeid.split("::")[0]] |= called
                called.update(before)

    session.config.pluginmanager.register(Fixtures())
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        called.clear()
        began = time.process_time()
        sys.setprofile(note)
        passed = _passes(item, following)
        sys.setprofile(None)
        seen.seconds[item.nodeid] = time.process_time() - began
        for function in called:
            seen.tests[function].add(item.nodeid)
        if not passed:
            seen.failed.add(item.nodeid)
    for scope, functions in shared.items():
        for function in functions:
            seen.tests[function] |= {item.nodeid for item in session.items if item.nodeid.startswith(scope)}
    seen.modules = [name for name in sys.modules if name not in imported]
    return seen


def _import(modules: list[str]) -> None:
    with warnings.catch_warnings(action="ignore"):
        for name in modules:
            with suppress(Exception):
                importlib.import_module(name)
