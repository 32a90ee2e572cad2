"""Semantic image synthesis for abdominal CT: from a label map to a CT volume.

In Python:

    model = ctsynth.load("runs/ddpm-mask")
    hu = model.draw(labels, spacing=5.0, seed=0)

and the commands as functions: ``ctsynth.preprocess``, ``ctsynth.score``, ``ctsynth.report``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctsynth.api import Model, load, preprocess, report, score

__version__ = "0.1.0"

__all__ = ["Model", "__version__", "load", "preprocess", "report", "score"]


def __getattr__(name: str) -> object:
    """Imports ``ctsynth.api``, and torch with it where it must, when one of its names is wanted."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ctsynth.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
