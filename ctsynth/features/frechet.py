"""How far apart two sets of features are: Fréchet distance and kernel distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]


class Features(Protocol):
    """(n, d): n things, d features each; an array, or what lies on disk and is read by rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> NDArray[np.floating[Any]]: ...  # noqa: ANN401  slice or indices


class Stacked:
    """The features of several sets one after the other, of which one is in memory at a time.

    Args:
        parts: Size of each set, and the function that reads it, (size, d).
        d: Features of a thing.
    """

    def __init__(self, parts: Sequence[tuple[int, Callable[[], NDArray[np.float32]]]], d: int) -> None:
        self._parts = parts
        self.shape = (sum(n for n, _ in parts), d)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        wanted = np.arange(len(self))[rows]
        found = np.empty((*wanted.shape, self.shape[1]), np.float32)
        start = 0
        for n, read in self._parts:
            here = (wanted >= start) & (wanted < start + n)
            if here.any():
                found[here] = read()[wanted[here] - start]
            start += n
        return found


BLOCKS = 100
"""Subsets that the kernel distance is averaged over (Binkowski et al. 2018, Sec. 5)."""

BLOCK_SIZE = 1000
"""Things in each (ibid.); half of those there are where there are fewer than two such blocks."""

SEED = 0
"""Seed of the subsets: the same features give the same distance."""

_ROWS = 4096
"""Read at a time."""

_TOGETHER = 8
"""Subsets that are read at a time."""


def frechet_distance(one: Features, other: Features) -> float:
    """Squared Fréchet distance of the normal distributions with the means and covariances of two sets.

        |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2))

    (Dowson and Landau 1982; Heusel et al. 2017, Eq. 6). No matrix root is needed: where both covariances have full
    rank, the trace is the sum of the roots of the eigenvalues of S1 S2. Where one has not, it is that of the
    singular values of R1 R2^T with S = R^T R for each set; with no more things than features R is the centered
    set itself, and small. Covariances have the divisor n - 1.

    Args:
        one: (n1, d), n1 at least 2.
        other: (n2, d), n2 at least 2.

    Raises:
        ValueError: A set has fewer than two things.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"sets of {len(one)} and {len(other)}: a covariance needs at least 2")
    if min(len(one), len(other)) > one.shape[1]:
        (mean1, covariance1), (mean2, covariance2) = _covariance(one), _covariance(other)
        spread = np.trace(covariance1) + np.trace(covariance2)
        try:
            values = linalg.eigh(covariance1, covariance2, type=2, eigvals_only=True, driver="gv")
            cross = np.sqrt(np.clip(values, 0, None)).sum()
        except linalg.LinAlgError:  # a feature that never changes, or two that always agree
            cross = _trace_norm(_root(covariance1) @ _root(covariance2).T)
    else:
        (mean1, root1), (mean2, root2) = _deviations(one), _deviations(other)
        spread = np.square(root1).sum() + np.square(root2).sum()
        cross = _trace_norm(root1 @ root2.T)
    return max(0.0, float(np.square(mean1 - mean2).sum() + spread - 2 * cross))


def _covariance(features: Features) -> tuple[Array, Array]:
    """The mean (d,) of a set and its covariance (d, d)."""
    n, d = features.shape
    parts = [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]
    mean = np.sum([features[part].sum(axis=0, dtype=np.float64) for part in parts], axis=0) / n
    covariance: Array = np.zeros((d, d))
    for part in parts:
        rows = features[part] - mean
        covariance += rows.T @ rows
    return mean, covariance / (n - 1)


def _deviations(features: Features) -> tuple[Array, Array]:
    """The mean (d,) of a set and a root R (r, d) of its covariance R^T R, with no more than d rows."""
    n, d = features.shape
    if n > d:
        mean, covariance = _covariance(features)
        return mean, _root(covariance)
    rows = features[:].astype(np.float64)
    center: Array = rows.mean(axis=0)
    return center, (rows - center) / np.sqrt(n - 1)


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    root: Array = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    return root


def _trace_norm(matrix: Array) -> float:
    """The sum of the singular values."""
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def kernel_distance(one: Features, other: Features) -> tuple[float, float, int]:
    """Kernel Inception distance: unbiased squared MMD with k(x, y) = (x.y / d + 1)^3, a mean over subsets.

    (Binkowski et al. 2018, Eqs. 4 and 6.) Being unbiased it may come out negative, and unlike the Fréchet distance
    it can be compared between sets of different sizes.

    Args:
        one: (n1, d), n1 at least 4.
        other: (n2, d), n2 at least 4.

    Returns:
        The mean over ``BLOCKS`` subsets, their standard deviation, and the size of each.

    Raises:
        ValueError: A set has fewer than four things.
    """
    smaller = min(len(one), len(other))
    if smaller < 4:
        raise ValueError(f"sets of {len(one)} and {len(other)}: subsets need at least 4 to choose from")
    size = min(BLOCK_SIZE, smaller // 2)
    rng = np.random.default_rng(SEED)
    chosen = [[rng.choice(len(each), size, replace=False) for each in (one, other)] for _ in range(BLOCKS)]
    values = []
    for start in range(0, BLOCKS, _TOGETHER):
        xs, ys = (np.stack(rows) for rows in zip(*chosen[start : start + _TOGETHER], strict=True))
        for rows in zip(one[xs], other[ys], strict=True):
            x, y = (each.astype(np.float64) for each in rows)
            values.append(_within(x) + _within(y) - 2 * _kernel(x, y).mean())
    return float(np.mean(values)), float(np.std(values)), size


def _kernel(x: Array, y: Array) -> Array:
    inner = x @ y.T / x.shape[1] + 1
    return inner * inner * inner  # ** 3 takes ten times as long


def _within(x: Array) -> float:
    """The mean kernel of two different things of a set (m, d)."""
    kernel = _kernel(x, x)
    return float((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)))
