"""Pairs whose synthetic volume is the real one with a known fault, which a score must see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from ctsynth.data.store import Store
from ctsynth.metrics._described import real_pair
from ctsynth.metrics.base import Pair


def real_pairs(store: Store) -> list[Pair]:
    """The test subjects' real slices, also as the synthetic ones."""
    return [real_pair(subject, store) for subject in store.subjects("test")]


def shuffled(pair: Pair) -> Pair:
    """The real slices in another order, each where the body is; labels stay."""
    order = np.random.default_rng(0).permutation(len(pair.real))
    return replace(pair, synthetic=pair.real[order])


def blurred(pair: Pair) -> Pair:
    """The real slices blurred by 1.5 pixels."""
    return replace(pair, synthetic=gaussian_filter(pair.real, (0, 1.5, 1.5)))


def blurred_along_z(pair: Pair) -> Pair:
    """The real volume blurred by 1 slice."""
    return replace(pair, synthetic=gaussian_filter1d(pair.real, 1.0, axis=0))


def class_means(pair: Pair, noise: float = 0.05) -> Pair:
    """Each class in its mean, with white noise."""
    counts = np.maximum(np.bincount(pair.mask.ravel(), minlength=pair.labels.num_classes), 1)
    means = np.bincount(pair.mask.ravel(), weights=pair.real.ravel(), minlength=len(counts)) / counts
    noisy = means[pair.mask] + noise * np.random.default_rng(0).standard_normal(pair.mask.shape)
    return replace(pair, synthetic=np.clip(noisy, 0, 1).astype(np.float32))


def redrawn_noise(pair: Pair, noise: float = 0.08) -> Pair:
    """The real volume with white noise added: drawn slice by slice."""
    noisy = pair.real + noise * np.random.default_rng(0).standard_normal(pair.real.shape)
    return replace(pair, synthetic=np.clip(noisy, 0, 1).astype(np.float32))


def another(pair: Pair, other: Pair) -> Pair:
    """Another subject's slices."""
    return replace(pair, synthetic=other.real)
