"""A speed figure: a quantity of ours beside a named peer's, measured alternately in one process."""

from __future__ import annotations

import contextlib
import io
import resource
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

Side = Callable[[], Any]
"""What one side does once."""

Setup = Callable[[Path, Path], tuple[Side, Side]]


def relative(ours: ArrayLike, peers: ArrayLike) -> float:
    """The largest difference, as a share of the peer's largest number."""
    ours, peers = np.asarray(ours, np.float64), np.asarray(peers, np.float64)
    if ours.shape != peers.shape:
        raise ValueError(f"ours has the shape {ours.shape}, the peer's {peers.shape}")
    return float(np.abs(ours - peers).max() / np.abs(peers).max())


@dataclass(frozen=True, kw_only=True)
class Row:
    """A quantity and the ratio to hold.

    Args:
        name: What it is asked for by.
        quantity: What is measured, with all that it depends on.
        peer: Whose is measured beside it.
        hold: Ours / the peer's should not be above this; None for a ratio that is reported only.
        setup: Makes both sides, ours first, from the folder of the official checkouts and an empty one. It raises
            ModuleNotFoundError where the peer is not at hand.
        unit: Seconds; or bytes or network evaluations, which are the same each time and so are counted once.
        returned: A side returns what it costs. Otherwise its cost is CPU time, and what it returns is its finding.
        within: How much both findings may differ; None where they are not the same thing.
        difference: Of both findings, ours first.
        small: As ``setup``, for a test of the findings alone.
    """

    name: str
    quantity: str
    peer: str
    hold: float | None
    setup: Setup
    unit: Literal["s", "B", "evaluations"] = "s"
    returned: bool = False
    within: float | None = None
    difference: Callable[[Any, Any], float] = relative
    small: Setup | None = None


@dataclass(frozen=True)
class Figure:
    """What was measured: medians of both sides, a pair's ratio and its quartiles, how far apart findings are."""

    row: Row
    ours: float
    peers: float
    low: float
    ratio: float
    high: float
    apart: float | None


def measure(row: Row, official: Path, pairs: int) -> Figure:
    """Measures both sides alternately, after a first call of each that does not count (see ``compare``)."""
    with TemporaryDirectory() as folder:
        sides = row.setup(official, Path(folder))
        apart = compare(row, sides)
        taken = []
        for number in range(pairs if row.unit == "s" else 1):
            order = -1 if number % 2 else 1  # who goes first changes
            taken.append([_cost(row, side) for side in sides[::order]][::order])
    ratios = [ours / peers for ours, peers in taken]
    low, ratio, high = statistics.quantiles(ratios * 2 if len(ratios) == 1 else ratios, n=4, method="inclusive")
    ours, peers = (statistics.median(values) for values in zip(*taken, strict=True))
    return Figure(row, ours, peers, low, ratio, high, apart)


def compare(row: Row, sides: tuple[Side, Side]) -> float | None:
    """Calls both and says how far apart their findings are; None where these are not the same thing.

    Raises:
        AssertionError: Farther than ``within``.
    """
    ours, peers = (side() for side in sides)
    if row.within is None:
        return None
    apart = row.difference(ours, peers)
    assert apart <= row.within, f"{row.name}: {apart:.1e} apart, {row.within:.0e} at most"
    return apart


def _cost(row: Row, side: Side) -> float:
    before = _processor_time()
    number = side()
    return number if row.returned else _processor_time() - before


def _processor_time() -> float:
    """Seconds of this process and of those it has run: what other people's jobs take does not count."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


@contextlib.contextmanager
def checkout(official: Path, name: str, stand_ins: Mapping[str, dict[str, object]] = {}) -> Iterator[None]:
    """Official code can be imported within, and says nothing.

    Afterwards its modules are forgotten, so that two checkouts may both have a package called ``models``.

    Args:
        official: Where the checkouts lie.
        name: Of the checkout's folder.
        stand_ins: The content of modules that stand in for what it imports and does not need here.
    """
    folder = (official / name).resolve()
    if not folder.is_dir():
        raise ModuleNotFoundError(f"there is no {folder}")
    sys.path.insert(0, str(folder))
    real = {module: sys.modules.pop(module) for module in stand_ins if module in sys.modules}
    before = set(sys.modules)
    for module, content in stand_ins.items():
        sys.modules[module] = ModuleType(module)
        vars(sys.modules[module]).update(content)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.path.remove(str(folder))
        for module in set(sys.modules) - before:
            places = [
                getattr(sys.modules[module], "__file__", None),
                *getattr(sys.modules[module], "__path__", ()),
            ]
            if module in stand_ins or any(place and Path(place).is_relative_to(folder) for place in places):
                del sys.modules[module]
        sys.modules.update(real)
