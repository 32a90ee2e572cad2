"""One synthetic subject: anatomy drawn, painted slab by slab, and scanned.

Everything but the scanner's noise is a function of (seed, subject, position in mm). So any subject can be made
alone, and comes out with the same anatomy on any grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ctsynth.phantom.body import paint_body, paint_table
from ctsynth.phantom.bones import paint_bones
from ctsynth.phantom.canvas import Canvas, Fields, Person
from ctsynth.phantom.organs import Anatomy
from ctsynth.phantom.shapes import BOTTOM, FIELD_OF_VIEW, TOP, Array, Points
from ctsynth.phantom.texture import Texture
from ctsynth.phantom.tissues import paint_organs

_VOXELS_AT_ONCE = 40_000
"""Slices are made in slabs of about so many voxels, which the processor's cache holds."""


@dataclass(frozen=True, eq=False, slots=True)
class PhantomSubject:
    """One synthetic subject, in RAS+.

    Shapes:
        hu: (X, Y, Z) int16, HU.
        labels: (X, Y, Z) uint8, AMOS22's 15 organs.
        body: (X, Y, Z) bool, the patient with lungs and gas, without the table.
        affine: (4, 4) float64, voxel index to mm.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    body: NDArray[np.bool_]
    affine: NDArray[np.float64]


def make_subject(seed: int, index: int, *, size: int, slices: int, textured: bool = True) -> PhantomSubject:
    """Makes one subject: anatomy, tissue and body painted slab by slab, then scanned.

    Args:
        seed: Seed of the data set, at least 0.
        index: Which subject, at least 0; together with the seed it is all that the anatomy depends on.
        size: Side of the square slices, voxels; the field of view is 384 mm.
        slices: Number of slices; the torso is 360 mm long.
        textured: With ``Texture``; without, the HU are those that the anatomy determines, and the noise.
    """
    anatomy_seed, field_seed, scan_seed, texture_seed = np.random.SeedSequence((seed, index)).spawn(4)
    rng = _rng(anatomy_seed)
    person = Person.draw(rng)
    anatomy = Anatomy.draw(person, rng)
    noise = float(rng.uniform(8, 15))
    fields, texture = Fields(field_seed), Texture(texture_seed)
    side = _centers(-FIELD_OF_VIEW / 2, FIELD_OF_VIEW / 2, size)
    heights = _centers(BOTTOM, TOP, slices)
    noise_seeds = scan_seed.spawn(slices)
    hu = np.empty((slices, size, size), np.int16)
    labels = np.empty(hu.shape, np.uint8)
    body = np.empty(hu.shape, np.bool_)
    thick = max(1, _VOXELS_AT_ONCE // size**2)
    for first in range(0, slices, thick):
        slab = slice(first, first + thick)
        x, a = side - np.float32(person.center[0]), side - np.float32(person.center[1])
        canvas = _paint(anatomy, fields, Points.grid(x, a, heights[slab]))
        if textured:
            np.add(canvas.hu, texture.at(canvas.points), out=canvas.hu, where=canvas.body)
        hu[slab] = _scan(canvas, noise_seeds[slab], noise)
        labels[slab], body[slab] = canvas.labels, canvas.body
    affine = np.diag([FIELD_OF_VIEW / size, FIELD_OF_VIEW / size, (TOP - BOTTOM) / slices, 1.0])
    affine[:3, 3] = side[0], side[0], heights[0]
    return PhantomSubject(np.moveaxis(hu, 0, 2), np.moveaxis(labels, 0, 2), np.moveaxis(body, 0, 2), affine)


def _rng(seed: np.random.SeedSequence) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _centers(low: float, high: float, count: int) -> Array:
    return (low + (np.arange(count) + 0.5) * ((high - low) / count)).astype(np.float32)


def _paint(anatomy: Anatomy, fields: Fields, points: Points) -> Canvas:
    canvas = Canvas(anatomy.person, points, fields)
    wall = paint_body(canvas)
    paint_organs(canvas, anatomy)
    paint_bones(canvas, wall)
    paint_table(canvas)
    return canvas


def _scan(canvas: Canvas, seeds: list[np.random.SeedSequence], noise: float) -> NDArray[np.int16]:
    """Blurs slices as a scanner does and adds correlated noise, more in the middle of the patient.

    Args:
        canvas: (K, X, Y) in HU.
        seeds: Seed of each slice's noise.
        noise: Standard deviation, HU.
    """
    points = canvas.points
    pixel = FIELD_OF_VIEW / len(points.axes[0])
    hu = _blurred(canvas.hu, max(0.62, 1 / pixel))
    grain = np.stack([_rng(seed).standard_normal(hu.shape[1:], np.float32) for seed in seeds])
    impulse = np.zeros(15, np.float32)
    impulse[7] = 1
    left = float((gaussian_filter1d(impulse, 0.7) ** 2).sum())  # of the standard deviation, after both axes
    middle = np.exp(-((points.x**2 + points.a**2) / np.float32(96**2)))
    hu += _blurred(grain, 0.7) * (noise / left) * (0.7 + 0.5 * middle)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _blurred(voxels: Array, sigma: float) -> Array:
    once = gaussian_filter1d(voxels, sigma, axis=1)
    return np.asarray(gaussian_filter1d(once, sigma, axis=2), np.float32)
