"""Volume to axial slices and back.

A slice is shown as a radiologist sees it, from the feet: row 0 is anterior, column 0 is the patient's right, so
that ``slice[h, w] = voxels[X - 1 - w, Y - 1 - h, z]`` of the RAS+ volume.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window

Kind = Literal["ct", "labels"]


def unstack(voxels: NDArray[Any]) -> NDArray[Any]:
    """(X, Y, Z) RAS+ voxels as (Z, Y, X) slices in display order; a view."""
    return voxels[::-1, ::-1].transpose(2, 1, 0)


def stack(slices: NDArray[Any]) -> NDArray[Any]:
    """(Z, H, W) slices in display order as (W, H, Z) RAS+ voxels; a view, and the inverse of ``unstack``."""
    return slices.transpose(2, 1, 0)[::-1, ::-1]


def to_slices(voxels: NDArray[Any], size: int, kind: Kind, *, air: float = Window().air) -> NDArray[Any]:
    """Axial slices of a volume, padded to a centered square and resized.

    A CT is resized by Pillow's bilinear filter, whose support grows with the reduction (antialiasing), in float32,
    and rounded to int16. Labels take the nearest voxel, pixel centers at half-integers. At the volume's own
    in-plane size both are the identity.

    Args:
        voxels: (X, Y, Z) RAS+; a CT in HU, already clipped to its window, or labels.
        size: Side of the slices, pixels.
        kind: What the voxels are.
        air: What a CT is padded with, HU: ``Window.air``. Labels are padded with 0.

    Returns:
        (Z, size, size): int16 for a CT, the dtype given for labels.
    """
    slices = unstack(voxels)
    height, width = slices.shape[1:]
    padding = [_padding(length, max(height, width)) for length in (height, width)]
    resized = np.empty((len(slices), size, size), np.int16 if kind == "ct" else voxels.dtype)
    for pixels, target in zip(slices, resized, strict=True):  # one by one: a square may be far larger than a slice
        square = pixels if height == width else np.pad(pixels, padding, constant_values=air if kind == "ct" else 0)
        target[:] = _resized(square, size, kind)
    return resized


def from_slices(slices: NDArray[Any], geometry: Geometry, kind: Kind) -> NDArray[Any]:
    """The inverse of ``to_slices``: slices brought back onto the grid of the volume that they came from.

    Args:
        slices: (Z, H, W), H = W, in display order.
        geometry: Grid of the volume, (X, Y, Z).
        kind: What the slices are.

    Returns:
        (X, Y, Z) RAS+ voxels: int16 for a CT, the dtype given for labels.

    Raises:
        ValueError: There are more or fewer slices than the geometry has, or they are not square.
    """
    x, y, z = geometry.shape
    if slices.shape[0] != z or slices.shape[1] != slices.shape[2]:
        raise ValueError(f"slices of shape {slices.shape} do not fit a volume of shape {geometry.shape}")
    side = max(x, y)
    top, left = _padding(y, side)[0], _padding(x, side)[0]
    cropped = np.empty((z, y, x), np.int16 if kind == "ct" else slices.dtype)
    for pixels, target in zip(slices, cropped, strict=True):
        target[:] = _resized(pixels, side, kind)[top : top + y, left : left + x]
    return stack(cropped)


def stacked_geometry(geometry: Geometry, size: int) -> Geometry:
    """The geometry of ``stack(to_slices(volume, size))``.

    A pixel covers side / size voxels of the volume's padded square, so that the center of the first lies half a
    pixel inside its border where that of a voxel lay half a voxel; Z is untouched.

    Args:
        geometry: Grid of the volume.
        size: Side of the slices, pixels.
    """
    x, y, z = geometry.shape
    side = max(x, y)
    scale = side / size
    to_voxel = np.diag([scale, scale, 1.0, 1.0])
    to_voxel[:2, 3] = [
        (scale - 1) / 2 - _padding(length, side)[1] for length in (x, y)
    ]  # display order is flipped
    return Geometry((size, size, z), geometry.affine @ to_voxel)


def _padding(length: int, side: int) -> tuple[int, int]:
    before = (side - length) // 2
    return before, side - length - before


def _resized(square: NDArray[Any], size: int, kind: Kind) -> NDArray[Any]:
    """One slice at another size."""
    side = len(square)
    if kind == "labels":
        nearest = (2 * np.arange(size) + 1) * side // (2 * size)  # floor((i + 1/2) * side / size), exactly
        return square if side == size else square[nearest[:, None], nearest]
    if side == 2 * size and square.dtype == np.int16:
        return _halved(square)
    return np.rint(square if side == size else _by_pillow(square, size, size))


def _by_pillow(pixels: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(pixels, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


_ENDS = [0, 1, 2, 3, -4, -3, -2, -1]
"""Rows that hold all that the first and the last row depend on at half the size."""


def _halved(square: NDArray[np.int16]) -> NDArray[np.int16]:
    """What Pillow's filter makes of a slice at half its size, in half the time.

    There its four taps are 1/8, 3/8, 3/8 and 1/8, so that float32 holds every sum exactly, as whole numbers do.
    The outermost pixels, where a tap is missing, are Pillow's own.
    """
    size = len(square) // 2
    halved = np.empty((size, size), np.int16)
    halved[[0, -1]] = _halved_by_pillow(square[_ENDS])[[0, -1]]
    halved[:, [0, -1]] = _halved_by_pillow(square[:, _ENDS])[:, [0, -1]]
    turned = square[::-1, ::-1]  # as it lies in memory: see unstack
    largest = max(-int(turned.min()), int(turned.max()))
    sums = _taps(turned if 64 * largest <= np.iinfo(np.int16).max else turned.astype(np.int32))
    sums = _taps(sums.T).T
    halved[-2:0:-1, -2:0:-1] = (sums + 31 + (sums >> 6 & 1)) >> 6  # of 64ths, half to even
    return halved


def _halved_by_pillow(pixels: NDArray[np.int16]) -> NDArray[np.float32]:
    height, width = (length // 2 for length in pixels.shape)
    return np.rint(_by_pillow(_by_pillow(pixels, 2 * height, width), height, width))  # along rows, then columns


def _taps(rows: NDArray[Any]) -> NDArray[Any]:
    """Sums over every two rows but the outermost, weight 3, and the rows before and after them, weight 1."""
    sums = rows[2:-2:2] + rows[3:-2:2]
    sums *= 3
    sums += rows[1:-3:2]
    sums += rows[4::2]
    return np.asarray(sums)
