"""Structural similarity, of the whole slice and inside the body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from ctsynth.errors import DataError
from ctsynth.metrics.base import Arrays, Metric, Pair, Record, slice_mean
from ctsynth.scoring.scores import Result

SIGMA = 1.5
RADIUS = 5
C1 = 0.01**2
C2 = 0.03**2

Map = NDArray[np.float64]


class SSIM(Metric):
    """Structural similarity with a Gaussian window on values in [0, 1] (Wang et al. 2004), averaged over slices.

    Equal to scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1)``: only windows inside the slice count. The column of the body averages the same map over the
    pixels of the patient.
    """

    title = "SSIM"
    higher_is_better = True
    rank = 3
    parallel = True
    settings: ClassVar[dict[str, Any]] = {
        "values": "[0, 1]",
        "data_range": 1.0,
        "window": "Gaussian, sigma 1.5, 11 x 11",
        "K1": 0.01,
        "K2": 0.03,
        "border": "windows that reach over the edge left out",
        "mean": "over slices",
    }

    def measure(self, pair: Pair) -> Record:
        """SSIM of each slice, ``whole`` and in the ``body``, NaN where there is none.

        Raises:
            DataError: The slices are smaller than the window.
        """
        if min(pair.real.shape[1:]) < 2 * RADIUS + 1:
            raise DataError(f"{pair.subject}: slices of {pair.real.shape[1:]} pixels, SSIM's window is 11 x 11")
        whole, body = [], []
        for real, synthetic, inside in zip(pair.real, pair.synthetic, pair.body, strict=True):
            similarity = similarity_map(real, synthetic)
            inner = inside[RADIUS:-RADIUS, RADIUS:-RADIUS]
            whole.append(float(similarity.mean()))
            body.append(float(similarity[inner].mean()) if inner.any() else math.nan)
        return {"whole": whole, "body": body}

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean over slices, and the same inside the body as variant ``body``."""
        values = np.concatenate([record["body"] for record in records.values()])
        bodiless = int(np.isnan(values).sum())
        notes = [f"{bodiless} of {len(values)} slices show no body: left out of the mean"] if bodiless else []
        body = slice_mean(self, records, "body", "SSIM in body", notes)
        return replace(slice_mean(self, records, "whole"), variants={"body": body})


def similarity_map(real: NDArray[np.floating[Any]], synthetic: NDArray[np.floating[Any]]) -> Map:
    """SSIM at every pixel whose window lies inside the slice.

    Args:
        real: (H, W) in [0, 1].
        synthetic: (H, W) in [0, 1].

    Returns:
        (H - 10, W - 10).
    """
    x, y = real.astype(np.float64), synthetic.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    squares, product = _blur(x * x + y * y), _blur(x * y)  # both variances are only ever added: one blur for two
    of_means, of_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    above = (2 * of_means + C1) * (2 * (product - of_means) + C2)
    below = (of_squares + C1) * (squares - of_squares + C2)
    similarity: Map = above / below
    return similarity


def _kernel() -> Map:
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    kernel: Map = weights / weights.sum()
    return kernel


def _blur(image: Map) -> Map:
    """The Gaussian mean around every pixel whose window lies inside the slice."""
    kernel = _kernel()
    rows = correlate1d(image, kernel, axis=0)[RADIUS:-RADIUS]
    blurred: Map = correlate1d(rows, kernel, axis=1)[:, RADIUS:-RADIUS]
    return blurred
