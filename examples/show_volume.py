"""Shows a volume in its three planes, each through the middle, and beside it the label map that it was drawn from.

    python examples/show_volume.py SYNTHETIC MASK OUT.png

Both are files of any format that ctsynth reads, on the same grid. Columns are axial, coronal and sagittal.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from ctsynth.data.volume import Volume

mpl.use("Agg")
import matplotlib.pyplot as plt

PLANES = ("axial", "coronal", "sagittal")


def main(synthetic: Path, mask: Path, out: Path) -> None:
    """Writes one picture."""
    volumes = [Volume.load(synthetic), Volume.load(mask)]
    _, spots = plt.subplots(2, 3, figsize=(9, 6), facecolor="black")
    looks: list[dict[str, object]] = [{"cmap": "gray", "vmin": -160, "vmax": 240}, {"cmap": "nipy_spectral"}]
    for row, volume, look in zip(spots, volumes, looks, strict=True):
        for axis, plane in zip(row, (2, 1, 0), strict=True):
            pixels, height = _middle(volume, plane)
            axis.imshow(pixels, aspect=height, interpolation="nearest", **look)
            axis.set_title(PLANES[2 - plane], color="white")
            axis.axis("off")
    plt.savefig(out, dpi=90, bbox_inches="tight")


def _middle(volume: Volume, plane: int) -> tuple[NDArray[np.generic], float]:
    """The middle slice across an axis, anterior or head up, the patient's right on the left; a pixel's height."""
    pixels = np.take(volume.voxels, volume.voxels.shape[plane] // 2, axis=plane).T[::-1]
    spacing = [size for axis, size in enumerate(volume.geometry.spacing) if axis != plane]
    return (pixels if plane == 0 else pixels[:, ::-1]), spacing[1] / spacing[0]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
