"""Nearest neighbors among slices and among features: copies, density and coverage."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIDE = 32
"""Side of a thumbnail, pixels."""

_ROWS = 1024
"""Distances are computed in blocks of so many rows and columns."""


class Rows(Protocol):
    """(n, d): an array, or what lies on disk and is read by rows."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...  # noqa: ANN401  a slice


def thumbnails(slices: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Slices reduced to 32 x 32 gray levels by the mean over areas: texture and noise do not hide a copy.

    Args:
        slices: (Z, H, W) in [0, 1].

    Returns:
        (Z, 1024) from 0 to 255; fewer of slices that are smaller.
    """
    rows, columns = (_areas(length, min(SIDE, length)) for length in slices.shape[1:])
    small = [np.rint(255 * (rows @ one @ columns.T)).ravel() for one in slices]
    return np.array(small, np.uint8).reshape(len(slices), len(rows) * len(columns))


def _areas(length: int, side: int) -> NDArray[np.float32]:
    """(side, length): the share of each pixel in each of ``side`` equal parts."""
    ends = np.linspace(0, length, side + 1)
    pixels = np.arange(length)
    overlap = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    return np.asarray(np.clip(overlap, 0, None) * side / length, np.float32)


def nearest(queries: NDArray[Any], others: NDArray[Any]) -> tuple[Array, NDArray[np.int64]]:
    """The nearest of other vectors to each vector.

    Args:
        queries: (n, d).
        others: (m, d), m at least 1.

    Returns:
        The root mean square distances (n,), and which it is (n,).
    """
    best, place = np.full(len(queries), np.inf), np.zeros(len(queries), np.int64)
    for rows in _blocks(len(queries)):
        for columns in _blocks(len(others)):
            squares = _squares(queries[rows], others[columns])
            found = squares.argmin(axis=1)
            least = squares[np.arange(len(found)), found]
            closer = least < best[rows]
            best[rows] = np.where(closer, least, best[rows])
            place[rows] = np.where(closer, found + columns.start, place[rows])
    differences = queries.astype(np.float64) - others[place]  # exact, where products have canceled
    return np.sqrt(np.square(differences).mean(axis=1)), place


def radii(features: Rows, k: int) -> Array:
    """Squared distance of each vector to its k-th nearest other one; infinite where there are fewer.

    Args:
        features: (n, d).
        k: Which neighbor.
    """
    found = np.full(len(features), np.inf)
    if len(features) <= k:
        return found
    for rows in _blocks(len(features)):
        squares = np.concatenate([_squares(features[rows], features[c]) for c in _blocks(len(features))], axis=1)
        squares[np.arange(len(squares)), np.arange(rows.start, rows.start + len(squares))] = -1  # itself, first
        found[rows] = np.partition(squares, k, axis=1)[:, k]
    return found


def density_and_coverage(real: Rows, synthetic: Rows, k: int) -> tuple[Array, NDArray[np.bool_]]:
    """What density and coverage are means of (Naeem et al. 2020, Eqs. 3 and 4).

    Args:
        real: (n, d) features; the ball of each reaches to its k-th nearest real neighbor.
        synthetic: (m, d).
        k: The neighbor.

    Returns:
        In how many balls each synthetic vector lies, divided by k, (m,); whether each ball holds any, (n,).
    """
    balls = radii(real, k)
    density, covered = np.zeros(len(synthetic)), np.zeros(len(real), np.bool_)
    for rows in _blocks(len(real)):
        for columns in _blocks(len(synthetic)):
            inside = _squares(real[rows], synthetic[columns]) <= balls[rows, None]
            density[columns] += inside.sum(axis=0) / k
            covered[rows] |= inside.any(axis=1)
    return density, covered


def _blocks(length: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, length, _ROWS)]


def _squares(one: NDArray[Any], other: NDArray[Any]) -> Array:
    """(n, m) squared distances, never negative."""
    x, y = one.astype(np.float64), other.astype(np.float64)
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.asarray(np.maximum(squares, 0))
