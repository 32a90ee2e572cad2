"""Pictures of drawn volumes beside their masks and the real slices, for README and the gallery.

    python examples/make_pictures.py STORE OUT.png --drawn FOLDER [FOLDER ...] --rows SUBJECT:PLANE:INDEX ...

STORE is a folder of ``ctsynth preprocess``, FOLDER one of ``ctsynth sample --data STORE``. PLANE is axial, coronal
or sagittal, INDEX counts its slices from 0. docs/gallery.md has the commands of all pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctsynth import figures
from ctsynth.data.store import Store
from ctsynth.metrics.base import Pair
from ctsynth.scoring.pairs import read_pair

HEIGHT = 256
"""Of a coronal or sagittal picture, pixels."""


def main() -> None:
    """Writes one picture: a row a slice, with the label map, what was drawn from it, and the real slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--drawn", type=Path, nargs="+", required=True)
    parser.add_argument("--rows", nargs="+", required=True, metavar="SUBJECT:PLANE:INDEX")
    parser.add_argument("--headers", nargs="+", default=None, metavar="WORDS", help="of the drawn columns")
    parser.add_argument("--truth", default="real, held out", metavar="WORDS", help="header of the last column")
    asked = parser.parse_args()
    store = Store.open(asked.store)
    rows = [_row(store, asked.drawn, *row.split(":")) for row in asked.rows]
    headers = ("label map", *(asked.headers or [folder.name for folder in asked.drawn]), asked.truth)
    figures.sheet(rows, headers=headers).save(asked.out, optimize=True)


def _row(store: Store, drawn: list[Path], name: str, plane: str, index: str) -> list[figures.RGB]:
    subject = store.subjects_by_name[name]
    pairs = [read_pair(subject, folder / f"{name}.nii.gz", store) for folder in drawn]
    first = pairs[0]
    labels = figures.colorize(_plane(first.mask, plane, int(index)), store.labels)
    grays = [
        figures.gray(_plane(volume, plane, int(index))) for volume in (*(p.synthetic for p in pairs), first.real)
    ]
    return [_stretched(labels, first, plane, Image.Resampling.NEAREST)] + [
        _stretched(gray, first, plane, Image.Resampling.BILINEAR) for gray in grays
    ]


def _plane(volume: NDArray, plane: str, index: int) -> NDArray:
    """A slice of a volume (Z, H, W) whose first row is anterior; head up in the other planes."""
    if plane == "axial":
        return volume[index]
    return volume[::-1, index] if plane == "coronal" else volume[::-1, :, index]


def _stretched(pixels: figures.RGB, pair: Pair, plane: str, how: Image.Resampling) -> figures.RGB:
    """A coronal or sagittal picture with square pixels, black above and below."""
    if plane == "axial":
        return pixels
    spacing = pair.geometry.spacing
    height = min(HEIGHT, round(len(pixels) * spacing[2] / spacing[0]))
    picture = np.asarray(Image.fromarray(pixels).resize((pixels.shape[1], height), how))
    above = (len(pair.real[0]) - height) // 2
    return np.pad(picture, ((above, len(pair.real[0]) - height - above), (0, 0), (0, 0)))


if __name__ == "__main__":
    main()
