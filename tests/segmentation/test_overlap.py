"""Boxes of organs and distances of their surfaces."""

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from ctsynth.segmentation.overlap import boxes, overlaps, surface_distances

SHAPE = (20, 16, 12)


def blobs(seed, threshold=0.1):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return noise > threshold * noise.max()


def test_overlaps_counts_common_voxels_and_those_of_each():
    one, other = np.zeros((2, *SHAPE), np.uint8)
    one[:10], other[5:15] = 6, 6
    plane = SHAPE[1] * SHAPE[2]
    assert overlaps(one, other)[:, 6].tolist() == [5 * plane, 10 * plane, 10 * plane]


def test_hd95_of_two_planes_is_their_distance_in_mm():
    one, other = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[:, :, 1] = other[:, :, 4] = True
    assert surface_distances(one, other, (2, 2, 5)).hd95() == pytest.approx(15)
    assert surface_distances(one, one, (2, 2, 5)).hd95() == 0
    assert np.isnan(surface_distances(one, np.zeros(SHAPE, bool), (2, 2, 5)).hd95())


def test_a_box_holds_an_organ_in_both_volumes():
    one, other = np.zeros((2, *SHAPE), np.uint8)
    one[2:4, 3:5, 1:3], other[1:3, 4:7, 2:4], one[5, 5, 3] = 6, 6, 1
    assert boxes(one, other) == boxes(other, one)
    assert boxes(one, other)[6] == (slice(1, 4), slice(3, 7), slice(1, 4))
    assert boxes(one, other)[1] == (slice(5, 6), slice(5, 6), slice(3, 4))


@pytest.mark.parametrize("seed", range(3))
def test_surface_distances_are_those_of_all_pairs_of_surface_voxels(seed):
    spacing = (0.9, 1.4, 5.0)
    masks = blobs(seed), blobs(seed + 10)

    def surface(mask):
        padded = np.pad(mask, 1)
        inner = np.ones_like(mask)
        for axis in range(3):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inner) * spacing

    distances = cdist(*map(surface, masks))
    there, back = distances.min(axis=1), distances.min(axis=0)
    found = surface_distances(*masks, spacing)
    assert found.hd95() == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    for tolerance in (1.0, 2.0, 5.0):
        near = (there <= tolerance).sum() + (back <= tolerance).sum()
        assert found.nsd(tolerance) == pytest.approx(near / (len(there) + len(back)))


@pytest.mark.parametrize(
    ("shift", "spacing", "share"), [(1, 2.0, 1.0), (2, 1.0, 1.0), (2, 1.01, 0.0), (1, 3.0, 0.0)]
)
def test_nsd_of_two_planes_asks_whether_they_are_within_2_mm(shift, spacing, share):
    one, other = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[4] = other[4 + shift] = True
    assert surface_distances(one, other, (spacing, 2, 5)).nsd() == share


def test_a_mask_against_an_empty_one_has_nsd_0_and_two_empty_ones_none():
    mask, empty = blobs(0), np.zeros(SHAPE, bool)
    assert surface_distances(mask, mask, (1, 1, 1)).nsd() == 1
    assert surface_distances(mask, empty, (1, 1, 1)).nsd() == 0
    assert surface_distances(empty, mask, (1, 1, 1)).nsd() == 0
    assert np.isnan(surface_distances(empty, empty, (1, 1, 1)).nsd())


def test_memory_does_not_grow_with_the_slices():
    def peak(slices):
        one = np.random.default_rng(0).integers(0, 17, (64, 64, slices), np.uint8)
        tracemalloc.start()
        overlaps(one, one)
        boxes(one, one)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(4)
    assert peak(256) < 1.1 * peak(16)
