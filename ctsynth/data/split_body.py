"""Gas, fat, soft and dense tissue: the body of a label map, split by the Hounsfield units of its CT.

Two thirds of an abdominal slice are in no organ. As one class, "body", they leave a model to invent where fat,
muscle, bowel gas and bone lie; split in four they do not. The paper's own body comes from "thresholding and
morphological operations" (Sec. 3); this is one step further.

Labels must carry anatomy and not the noise of the image: the CT is smoothed before the thresholds are applied, and
regions too small to be anatomy go to their neighbors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected_regions

from ctsynth.data.slices import to_slices
from ctsynth.data.window import AIR
from ctsynth.labels import LabelSet
from ctsynth.tissues import TISSUES, TissueThresholds

GAS, FAT, SOFT, DENSE = range(len(TISSUES))

_SMOOTHING = 1.0  # mm; standard deviation of the Gaussian, in plane
_HIGHEST = 4000  # HU; metal
_SMALLEST = 20.0  # mm^2; smaller regions go to their neighbors
_SKIN = 2.0  # mm; how far from the outside a voxel may be half air


def split_body(
    masks: NDArray[np.uint8], hu: NDArray[Any], spacing: tuple[float, float, float], labels: LabelSet
) -> NDArray[np.uint8]:
    """Replaces the body in the slices of a label map by its tissues; organs and background stay.

    Tissues are found on the grid of the slices, whose antialiasing smooths the CT where it is finer.

    Args:
        masks: (Z, size, size) labels with body.
        hu: (X, Y, Z) RAS+ HU of the volume that the slices are of, not clipped to a window.
        spacing: Voxel spacing, mm.
        labels: A set with tissues.

    Returns:
        (Z, size, size) uint8; ``join_body`` makes ``masks`` of it again.
    """
    assert labels.tissues is not None
    size = masks.shape[1]
    scale = max(hu.shape[:2]) / size
    pixel = (spacing[1] * scale, spacing[0] * scale)
    split = masks.copy()
    for z, mask in enumerate(split):
        is_body = mask == labels.body_id
        (ct,) = to_slices(np.clip(hu[:, :, z : z + 1], AIR, _HIGHEST), size, "ct", air=AIR)
        tissues = classify(ct, mask > 0, pixel, labels.tissues)
        mask[is_body] = labels.body_id + 1 + tissues[is_body]
    return split


def join_body(masks: NDArray[np.uint8], labels: LabelSet) -> NDArray[np.uint8]:
    """The inverse of ``split_body``: the body as one class again."""
    return np.minimum(masks, np.uint8(labels.body_id))


def classify(
    hu: NDArray[Any], inside: NDArray[np.bool_], pixel: tuple[float, float], thresholds: TissueThresholds
) -> NDArray[np.uint8]:
    """Classifies each pixel of a slice as gas, fat, soft or dense tissue.

    Args:
        hu: (H, W) HU, not clipped to a window.
        inside: (H, W); where the patient is.
        pixel: Sides of a pixel, mm.
        thresholds: Between the tissues.

    Returns:
        (H, W) uint8 of ``GAS``, ``FAT``, ``SOFT`` and ``DENSE``; without meaning outside the patient.
    """
    smooth = _smoothed(hu, inside, [_SMOOTHING / side for side in pixel])
    limits = [thresholds.gas_below, thresholds.fat_below, thresholds.dense_above]
    tissues = np.digitize(smooth, limits).astype(np.uint8)
    doubtful = inside & (tissues == GAS) & _near_outside(inside, pixel)
    regions = connected_regions(np.where(inside & ~doubtful, tissues + 1, 0), background=0, connectivity=1)
    small = np.bincount(regions.ravel()) * (pixel[0] * pixel[1]) < _SMALLEST
    doubtful |= small[regions] & inside
    known = inside & ~doubtful
    if not known.any():
        return np.full_like(tissues, SOFT)
    if doubtful.any():
        nearest = ndimage.distance_transform_edt(~known, pixel, return_distances=False, return_indices=True)
        tissues[doubtful] = tissues[tuple(nearest[:, doubtful])]
    return tissues


def _smoothed(hu: NDArray[Any], inside: NDArray[np.bool_], sigma: list[float]) -> NDArray[np.float32]:
    """A Gaussian over the patient alone, so that the air around does not thin the skin."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(inside, hu, 0).astype(np.float32), sigma)
    return np.divide(total, weight, out=np.zeros_like(total), where=inside)


def _near_outside(inside: NDArray[np.bool_], pixel: tuple[float, float]) -> NDArray[np.bool_]:
    """Pixels of the patient that share their place with the air around: partial volume, not gas."""
    depth = [max(1, round(_SKIN / side)) for side in pixel]
    deep = ndimage.binary_erosion(inside, np.ones([2 * n + 1 for n in depth], np.bool_), border_value=1)
    return inside & ~deep
