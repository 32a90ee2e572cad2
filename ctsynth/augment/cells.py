"""The subjects of each fraction and draw: nested within a draw, a tenth of them to choose the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from ctsynth.errors import UsageError

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)

_TENTH = 10
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Cell:
    """The subjects of one draw of one fraction.

    Args:
        fraction: Share of the store's training subjects.
        draw: Which of several drawings.
        train: What segmenters, and a generator of its own, are trained on.
        validation: What chooses the checkpoint.
        further: The store's other training subjects, in the draw's order.
    """

    fraction: float
    draw: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    further: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Its folder in that of the study."""
        return f"fraction-{self.fraction:g}/draw-{self.draw}"

    @property
    def subjects(self) -> int:
        """Real subjects that it knows the labels of."""
        return len(self.train) + len(self.validation)


def make_cells(names: Sequence[str], fractions: Sequence[float] | None, draws: int, seed: int) -> list[Cell]:
    """The subjects of every fraction and draw.

    A draw is a random order of all subjects, and a fraction its beginning, so that fractions of a draw are nested.
    Of every ten subjects in that order the first chooses the checkpoint. All subjects together are drawn once.

    Args:
        names: The store's training subjects.
        fractions: Shares of them; None takes those of ``FRACTIONS`` that give different numbers, 2 and more.
        draws: Of each fraction below 1.
        seed: For the orders.

    Raises:
        UsageError: A fraction is no share, or too few subjects, or as many as another; or there are fewer
            different draws than wanted.
    """
    sizes = _sizes(len(names), fractions)
    for fraction, size in sizes.items():
        ways = comb(len(names), size)
        if draws > ways and size < len(names):
            raise UsageError(
                f"`draws` {draws}: fraction {fraction:g}, {size} of {len(names)} subjects, can be drawn in"
                f" {ways} ways only",
                hint="say fewer draws, or leave that fraction out",
            )
    orders = _orders(sorted(names), [size for size in sizes.values() if size < len(names)], draws, seed)
    cells = []
    for fraction, size in sizes.items():
        for draw, order in enumerate(orders if size < len(names) else orders[:1]):
            chosen = order[:size]
            cells.append(
                Cell(
                    fraction,
                    draw,
                    train=tuple(sorted(name for place, name in enumerate(chosen) if place % _TENTH)),
                    validation=tuple(sorted(chosen[::_TENTH])),
                    further=tuple(order[size:]),
                )
            )
    return cells


def _sizes(total: int, fractions: Sequence[float] | None) -> dict[float, int]:
    sizes: dict[float, int] = {}
    for fraction in sorted(fractions if fractions is not None else FRACTIONS):
        if not 0 < fraction <= 1:
            raise UsageError(f"`fractions`: {fraction:g}, wanted above 0 and at most 1", hint="say 0.1 for 10 %")
        size = int(fraction * total + 0.5)
        problem = ""
        if size < 2:
            problem = f"is {size} of them; it takes 2, one to train and one to choose the checkpoint"
        elif size in sizes.values():
            problem = f"is {size} of them, as many as another fraction"
        if not problem:
            sizes[fraction] = size
        elif fractions is not None:
            raise UsageError(f"`fractions`: {fraction:g} of {total} training subjects {problem}")
    if not sizes:
        raise UsageError(f"the store has {total} training subjects; the study takes 2 and more")
    return sizes


def _orders(names: list[str], sizes: Sequence[int], draws: int, seed: int) -> list[list[str]]:
    """Random orders of the names whose beginnings of each size are different sets."""
    orders: list[list[str]] = []
    for number in range(_TRIES):
        order = [names[place] for place in np.random.default_rng([seed, number]).permutation(len(names))]
        if not any(set(order[:size]) == set(other[:size]) for size in sizes for other in orders):
            orders.append(order)
        if len(orders) == draws:
            return orders
    raise UsageError(f"`draws` {draws}: found only {len(orders)} that differ", hint="say fewer draws")
