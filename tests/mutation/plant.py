"""Puts a change into a module that is imported already, wherever its functions have got to since."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

from .changes import Change


def plant(module: ModuleType, change: Change) -> None:
    """Gives the changed function its new code, for all who hold it; a constant its value, wherever it is known."""
    code = compile(change.tree, str(module.__file__), "exec")
    if not change.function:
        _plant_constants(module, code)
        return
    found = dict(_functions(module))[change.function]
    found.__code__ = next(part for part in _codes(code) if part.co_qualname == change.function)


def _plant_constants(module: ModuleType, code: CodeType) -> None:
    before, changed = dict(vars(module)), ModuleType(module.__name__)
    changed.__file__ = module.__file__
    sys.modules[module.__name__] = changed  # which dataclasses look up
    exec(code, vars(changed))
    sys.modules[module.__name__] = module
    for name, value in vars(changed).items():
        if isinstance(value, int | float) and value != before[name]:
            for other in [other for key, other in sys.modules.items() if key.startswith("ctsynth")]:
                if vars(other).get(name) == before[name]:
                    setattr(other, name, value)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from _codes(part)


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """The module's own functions and methods by qualified name, out of what they are wrapped in."""
    for value in vars(module).values():
        members = vars(value).values() if isinstance(value, type) else [value]
        for member in members:
            inner = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            inner = inner.func if isinstance(inner, functools.cached_property) else inner
            while hasattr(inner, "__wrapped__"):
                inner = inner.__wrapped__
            if isinstance(inner, FunctionType) and inner.__module__ == module.__name__:
                yield inner.__code__.co_qualname, inner
