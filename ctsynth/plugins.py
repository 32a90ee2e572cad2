"""A file in a package is a plugin: listing them imports nothing, loading one imports that one."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from ctsynth.errors import UsageError

T = TypeVar("T")


def folders(package: str) -> list[Path]:
    """Where the plugins of a package lie: its own folder, then those of ``$CTSYNTH_PLUGINS``.

    ``$CTSYNTH_PLUGINS`` is a list of folders (separated as in ``$PATH``), each with a subfolder named like the
    package's last part: ``methods``, ``segmenters`` or ``metrics``.
    """
    own = Path(__file__).parent.joinpath(*package.split(".")[1:])
    extra = [Path(folder) for folder in os.environ.get("CTSYNTH_PLUGINS", "").split(os.pathsep) if folder]
    return [own, *(folder / package.rsplit(".", 1)[-1] for folder in extra)]


def names(package: str) -> list[str]:
    """The plugins of a package by name, sorted; a name is the file's stem with hyphens for underscores."""
    return sorted(_files(package))


def load(package: str, name: str) -> ModuleType:
    """Imports one plugin.

    Raises:
        UsageError: There is no plugin of that name, or its file cannot be imported.
    """
    files = _files(package)
    kind = package.rsplit(".", 1)[-1].removesuffix("s")
    if name not in files:
        raise UsageError(f"no {kind} is called {name!r}", hint=f"there are: {', '.join(files)}")
    file = files[name]
    module_name = f"{package}.{file.stem}"
    if module_name in sys.modules or file.parent == folders(package)[0]:
        return importlib.import_module(module_name)
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever someone's own file may do
        del sys.modules[module_name]
        raise UsageError(f"{file}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def find(package: str, name: str, base: type[T]) -> type[T]:
    """The class that a plugin defines: the first of its own that derives from ``base`` and can be made.

    Raises:
        UsageError: There is no plugin of that name, or it defines no such class.
    """
    module = load(package, name)
    for value in vars(module).values():
        is_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_own and issubclass(value, base) and not inspect.isabstract(value):
            return value
    kind = base.__name__.lower()
    hint = f"subclass {base.__module__}.{base.__name__} in it"
    raise UsageError(f"{module.__file__}: defines no {kind}", hint=hint)


def _files(package: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders(package):
        for file in sorted(folder.glob("[a-z]*.py")):
            if file.stem != "base":
                found.setdefault(file.stem.replace("_", "-"), file)
    return dict(sorted(found.items()))
