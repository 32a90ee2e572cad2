"""Semantic image synthesis for abdominal CT: from a label map to a CT volume.

In Python:

    model = ctsynth.load("runs/ddpm-mask")
    hu = model.draw(labels, spacing=5.0, seed=0)

and the commands as functions: ``ctsynth.preprocess``, ``ctsynth.score``, ``ctsynth.report``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctsynth.api.commands import preprocess, report, score
    from ctsynth.api.model import Model, load

__version__ = "0.2.0"

__all__ = ["Model", "__version__", "load", "preprocess", "report", "score"]


_PLACES = {"Model": "model", "load": "model", "preprocess": "commands", "report": "commands", "score": "commands"}


def __getattr__(name: str) -> object:
    """Imports what is wanted, and torch with it where it must, when it is."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ctsynth.api.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
