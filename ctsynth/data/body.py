"""The patient in a CT: which voxels are neither air, table nor blanket.

The paper: "thresholding and morphological operations" (Sec. 3). Here, on raw HU, in this order and for this
reason:

1. threshold at -250 HU, below fat: a gap between back and table that is narrower than a voxel stays a gap;
2. opening, slice by slice: table shells, blanket and tubes are thinner than any wall of the body;
3. components in 3-D: the largest is the trunk; an arm or a leg apart from it is thick, what is left of the table
   is not;
4. holes, slice by slice: lungs and bowel gas, also where a lung meets the first or last slice;
5. at full resolution, along the border, what is denser than -500 HU, half way from air to tissue.

Steps 2 to 4 run on a grid of about 2.5 mm, with radii in mm, so that a fine matrix costs no more than a coarse
one.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

Mask = NDArray[np.bool_]

TISSUE = -500
"""HU; what is above is no gas."""

ROOM_AIR = -960
"""HU; lung is above, the air between arm and trunk is below."""

_DENSE = -250  # HU; fat is above, a gap between back and table that is narrower than a voxel is below
_COARSE = 2.5  # mm; pixels of the grid on which the morphology runs, at most
_THIN = 3.5  # mm; half of the thickness that the opening removes
_GAP = 10.0  # mm; half of the widest gap in a chest wall that is sealed
_LIMB = 12.0  # mm; half of the thickness of a component that is kept beside the trunk
_LIMB_VOLUME = 20e3  # mm^3; and its volume
_OUTLINE = 30.0  # mm; skin, fat and wall around the organs
_NEARBY = 60.0  # mm; how far up and down the outline looks


def body_mask(hu: NDArray[Any], spacing: tuple[float, float, float], organs: Mask) -> Mask:
    """Finds the patient: with arms, lungs and bowel gas, without table, blanket and tubes.

    Args:
        hu: (X, Y, Z) RAS+ raw HU; a windowed CT will not do, for there lung and outside air are the same.
        spacing: Voxel spacing, mm.
        organs: (X, Y, Z); voxels that belong to the patient in any case.

    Returns:
        (X, Y, Z) bool.
    """
    factors, pixel = _coarse(spacing)
    slices = range(hu.shape[2])
    tissue = np.stack([_reduce(hu[:, :, z] > _DENSE, factors) for z in slices], axis=2)
    known = np.stack([_reduce(organs[:, :, z], factors) for z in slices], axis=2)
    core = np.stack([_opened(tissue[:, :, z], pixel) for z in slices], axis=2) | known
    core = _patient(core, (*pixel, spacing[2]), known)
    body = np.array(organs, np.bool_, order="F")  # as files are, slice by slice
    near, fine = _surroundings(core, factors)
    for z in slices:
        inside, ct = _filled(core[near][..., z]), hu[fine][..., z]
        inside |= _sealed(inside, ct, pixel, factors)
        body[fine][..., z] = _sharpened(inside, ct > TISSUE, factors) | organs[fine][..., z]
    return body


def outline_from_organs(labels: NDArray[Any], spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)) -> Mask:
    """Guesses the patient's outline where there are labels but no CT; an estimate, centimeters off in places.

    Slice by slice the convex hull of the organs within 6 cm above and below, grown by 3 cm for wall, fat and skin.
    Arms are not guessed. On two real cases its Dice with the body in the CT is 0.94, and 0.90 with arms in view.

    Args:
        labels: (X, Y, Z) RAS+; 0 is background.
        spacing: Voxel spacing, mm.

    Returns:
        (X, Y, Z) bool; all False where there is no organ at all.
    """
    factors, pixel = _coarse(spacing)
    organs = np.stack([_reduce(labels[:, :, z] > 0, factors) for z in range(labels.shape[2])], axis=2)
    occupied = np.flatnonzero(organs.any(axis=(0, 1)))
    outline = np.zeros(labels.shape, np.bool_, order="F")
    for z in range(labels.shape[2]) if len(occupied) else ():
        distances = np.abs(occupied - np.clip(z, occupied[0], occupied[-1]))
        reach = max(round(_NEARBY / spacing[2]), distances.min())  # between organs that are far apart
        nearby = np.any(organs[:, :, occupied[distances <= reach]], axis=2)
        grown = ndimage.distance_transform_edt(~_hull(nearby), sampling=pixel) <= _OUTLINE
        outline[:, :, z] = _enlarge(grown, factors, labels.shape)
    return np.asarray(outline | (labels > 0))


def _hull(mask: Mask) -> Mask:
    """The convex hull of what is true, at least a pixel wide."""
    image = Image.new("1", mask.shape[::-1])
    rows = [(x, *np.flatnonzero(mask[x])[[0, -1]]) for x in np.flatnonzero(mask.any(axis=1))]
    points = np.array([(y, x) for x, low, high in rows for y in (low, high)], np.float64)
    if len(np.unique(points[:, 0])) > 1 and len(np.unique(points[:, 1])) > 1:
        with contextlib.suppress(QhullError):  # all on one line
            points = points[ConvexHull(points).vertices]
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in points], fill=1)
    return np.asarray(image) | mask


def _coarse(spacing: tuple[float, float, float]) -> tuple[tuple[int, int], tuple[float, float]]:
    """How many voxels a coarse pixel covers along X and Y, and its sides, mm."""
    x, y = (max(1, int(_COARSE // length)) for length in spacing[:2])
    return (x, y), (spacing[0] * x, spacing[1] * y)


def _reduce(mask: Mask, factors: tuple[int, int]) -> Mask:
    """A coarser grid: a pixel is true where at least half of those that it covers are."""
    x, y = factors
    padded = np.pad(mask, [(0, -mask.shape[0] % x), (0, -mask.shape[1] % y)], mode="edge").view(np.uint8)
    counts = np.zeros((padded.shape[0] // x, padded.shape[1] // y), np.uint16)
    for i in range(x):
        for j in range(y):
            counts += padded[i::x, j::y]
    return np.asarray(2 * counts >= x * y)


def _enlarge(mask: Mask, factors: tuple[int, int], shape: tuple[int, ...]) -> Mask:
    return mask.repeat(factors[0], axis=0).repeat(factors[1], axis=1)[: shape[0], : shape[1]]


def _disc(radius: float, pixel: tuple[float, float]) -> Mask:
    """The pixels within a radius (mm) of one, at least its four neighbors."""
    reach = [max(1, int(radius // length)) for length in pixel]
    x, y = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    limits = [max(radius, length) for length in pixel]
    return np.asarray((x * pixel[0] / limits[0]) ** 2 + (y * pixel[1] / limits[1]) ** 2 <= 1 + 1e-6)


def _opened(mask: Mask, pixel: tuple[float, float]) -> Mask:
    """Without what is thin; a body cut by the border of the picture continues beyond it."""
    disc = _disc(_THIN, pixel)
    eroded = ndimage.binary_erosion(mask, disc, border_value=1)
    return np.asarray(ndimage.binary_dilation(eroded, disc))


def _patient(core: Mask, spacing: tuple[float, float, float], organs: Mask) -> Mask:
    """The largest component, those as thick as a limb, and those with an organ in them."""
    labels, count = ndimage.label(core)
    if count < 2:
        return core
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = np.zeros(count + 1, np.bool_)
    keep[labels[organs]] = True
    keep[sizes.argmax()] = True
    boxes = ndimage.find_objects(labels)
    for number in np.flatnonzero((sizes * np.prod(spacing) >= _LIMB_VOLUME) & ~keep):
        keep[number] = _half_thickness(labels[boxes[number - 1]] == number, spacing) >= _LIMB
    keep[0] = False
    return np.asarray(keep[labels])


def _surroundings(core: Mask, factors: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the patient is in any slice, and a coarse pixel around: in coarse pixels, and in voxels."""
    near = []
    for axis in (0, 1):
        there = np.flatnonzero(core.any(axis=(1 - axis, 2)))
        first, last = (there[0], there[-1]) if len(there) else (0, 0)
        near.append(slice(max(0, first - 1), min(core.shape[axis], last + 2)))
    fine = [slice(part.start * n, part.stop * n) for part, n in zip(near, factors, strict=True)]
    return (near[0], near[1]), (fine[0], fine[1])


def _half_thickness(component: Mask, spacing: tuple[float, float, float]) -> float:
    """The median over its slices of the largest in-plane distance to its border, mm."""
    padded = np.pad(component, [(1, 1), (1, 1), (0, 0)])
    depths = [
        ndimage.distance_transform_edt(padded[:, :, z], sampling=spacing[:2]).max()
        for z in np.flatnonzero(padded.any(axis=(0, 1)))
    ]
    return float(np.median(depths))


def _filled(mask: Mask) -> Mask:
    """With its holes: what is not connected to the border of the picture."""
    labels, count = ndimage.label(np.pad(~mask, 1, constant_values=True))
    is_hole = np.ones(count + 1, np.bool_)
    is_hole[[0, labels[0, 0]]] = False
    return np.asarray(mask | is_hole[labels[1:-1, 1:-1]])


def _sealed(inside: Mask, hu: NDArray[Any], pixel: tuple[float, float], factors: tuple[int, int]) -> Mask:
    """Lungs that leak through a gap in a thin chest wall: holes after a closing, if they hold no room air."""
    disc = _disc(_GAP, pixel)
    margin = max(disc.shape)
    padded = np.pad(inside, margin)
    closed = ndimage.binary_erosion(ndimage.binary_dilation(padded, disc), disc)[margin:-margin, margin:-margin]
    filled = _filled(closed)
    if (filled == closed).all():  # nothing but notches and slits, as between arm and trunk
        return np.zeros_like(inside)
    labels, count = ndimage.label(filled & ~inside)
    coarse = hu[factors[0] // 2 :: factors[0], factors[1] // 2 :: factors[1]]
    coarse = np.pad(
        coarse, [(0, want - have) for want, have in zip(inside.shape, coarse.shape, strict=True)], "edge"
    )
    is_lung = np.zeros(count + 1, np.bool_)
    for number in np.unique(labels[filled & ~closed]):
        is_lung[number] = np.median(coarse[labels == number]) > ROOM_AIR
    return np.asarray(is_lung[labels])


def _sharpened(inside: Mask, tissue: Mask, factors: tuple[int, int]) -> Mask:
    """The border at full resolution: within a coarse pixel of it, what is tissue."""
    square = np.ones((3, 3), np.bool_)
    deep = ndimage.binary_erosion(inside, square, border_value=1)
    near = ndimage.binary_dilation(inside, square)
    fine = _enlarge(near, factors, tissue.shape) & tissue
    return _filled(fine | _enlarge(deep, factors, tissue.shape))
