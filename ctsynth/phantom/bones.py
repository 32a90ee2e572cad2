"""The phantom's skeleton: spine, ribs, costal arch, breastbone and pelvis; bone is put over everything."""

from __future__ import annotations

import numpy as np

from ctsynth.phantom.body import Wall, iliac_wing
from ctsynth.phantom.canvas import Canvas
from ctsynth.phantom.shapes import Array, Mask, bump, follow, ramp

_PERIOD = 38.0
"""From vertebra to vertebra, mm."""

_SPACING = 26.0
"""From rib to rib, mm."""

_MARROW, _CORTEX, _CARTILAGE, _DISC = 175.0, 420.0, 112.0, 88.0
"""HU."""


def paint_bones(canvas: Canvas, wall: Wall) -> None:
    """Paints the skeleton, with marrow inside and cortex around it."""
    marrow = _MARROW + 34 * canvas.noise("lobules") + 14 * canvas.noise("texture")
    _ribs(canvas, wall, marrow)
    _breastbone(canvas, wall, marrow)
    _pelvis(canvas, marrow)
    _spine(canvas, wall, marrow)


def _fill(canvas: Canvas, value: Array, rim: float, marrow: Array, where: Mask | bool = True) -> None:
    """Bone where the value is negative, its outer share dense."""
    canvas.bone((value < 0) & where, marrow)
    canvas.cover((value < 0) & (value > -rim) & where, _CORTEX)


def _phase(height: Array, period: float) -> Array:
    """How many mm from the middle of the period that the height falls in."""
    return np.asarray(np.mod(height, period) - period / 2)


def _spine(canvas: Canvas, wall: Wall, marrow: Array) -> None:
    person, z = canvas.person, canvas.points.z
    x, a = canvas.points.x - person.spine_x(z), canvas.points.a - person.spine_a(z)
    lumbar = ramp(-z, 60, 260)
    sacrum = ramp(-z, 292, 305)
    waist = 1 - np.float32(0.08) * bump(_phase(z, _PERIOD), 12)
    taper = 1 - np.float32(0.6) * ramp(-z, 300, 365)
    body = np.hypot(x / ((20 + 5 * lumbar) * waist * taper), (a - 1) / ((17 + 2 * lumbar) * waist * taper)) - 1
    body = np.maximum(body, (1 - np.hypot(x / 20, (a + 33) / 20)) * 0.5)  # flat behind
    height = np.abs(_phase(z, _PERIOD))
    disc = (height > 0.4 * _PERIOD) & (sacrum < 0.5)
    behind = wall.depth > 2
    canal = np.hypot(x / 11, (a + 24) / 8) - 1
    ring = np.hypot(x / 19, (a + 25) / 16) - 1
    lamina = height < 0.33 * _PERIOD
    process = _processes(x, a, height)
    _fill(canvas, process, 0.25, marrow, lamina & behind)
    _fill(canvas, ring, 0.2, marrow, (lamina | (a < -22)) & behind)
    _fill(canvas, body, 0.11, marrow)
    canvas.bone((body < 0) & ~disc & (height > 0.33 * _PERIOD), marrow + 120)  # end plates
    canvas.bone((body < 0.02) & disc, _DISC)
    canvas.bone(canal < 0, 36.0 - 60 * ramp(canal, -0.25, 0))
    wide = 32 * np.sqrt(ramp(z, -350, -305)) + 1
    wings = np.hypot((np.abs(x) - wide) / wide, (a + 8) / (15 * taper)) - 1
    _fill(canvas, np.broadcast_to(wings, canvas.points.shape), 0.12, marrow - 40, (sacrum > 0.5) & (canal > 0))


def _processes(x: Array, a: Array, height: Array) -> Array:
    """Spinous and transverse processes and the joints between the arches."""
    side = np.abs(x)
    spinous = np.maximum(np.abs(x) / 3.8, np.abs(a + 48) / 15) - 1
    transverse = np.maximum(np.abs(side - 30) / 17, np.hypot((a + 24 + 0.12 * side) / 4.5, height / 8)) - 1
    joint = np.hypot((side - 17) / 8, (a + 31) / 8) - 1
    return np.asarray(np.minimum(np.minimum(spinous, transverse), joint))


def _ribs(canvas: Canvas, wall: Wall, marrow: Array) -> None:
    """Ribs run down from behind to the side, and their cartilage up again to the arch."""
    person, points = canvas.person, canvas.points
    if points.axes[2][-1] < -200:
        return
    behind = np.arctan2(np.abs(points.x), -(points.a + 8))  # 0 at the spine, pi in front; radians
    behind = behind.astype(np.float32)
    fall = 50 * np.minimum(behind, 2.3) - 60 * np.maximum(behind - 2.3, 0)
    height = _phase(points.z + fall, _SPACING)
    deep = (wall.depth - 0.55 * wall.thickness) / 4.2
    value = np.hypot(height / 5.5, deep) - 1
    lowest = follow(behind, (0.3, 0.6, 1.4, 1.9, 2.3, 2.8), (-125, -160, -172, -140, -105, -20))
    is_rib = (behind > 0.3) & (behind < 2.3) & (points.z > lowest)
    _fill(canvas, value, 0.42, marrow, is_rib)
    arch = (14 + 1.0 * (-points.z - 6)) * person.width
    front = (behind >= 2.25) & (points.a > 10)
    cartilage = front & (np.abs(points.x) > arch) & (value < 0) & (points.z > lowest - 20)
    edge = np.hypot((np.abs(points.x) - arch) / 9, deep / 1.1) - 1
    cartilage |= front & (edge < 0) & (points.z < -10) & (points.z > -118)
    canvas.bone(cartilage, _CARTILAGE + 18 * canvas.noise("lobules"))


def _breastbone(canvas: Canvas, wall: Wall, marrow: Array) -> None:
    points = canvas.points
    value = np.hypot(points.x / 13, (wall.depth - 6) / 4.5) - 1
    _fill(canvas, value, 0.3, marrow - 40, (points.z > -26) & (points.a > 0))


def _pelvis(canvas: Canvas, marrow: Array) -> None:
    """Iliac wings from the sacrum outward, and the heads of the femurs in their sockets."""
    person, points = canvas.person, canvas.points
    z = points.z
    if points.axes[2][0] > -268:
        return
    distance, radius = iliac_wing(canvas)
    value = (distance + 0.8 * canvas.noise("wobble")) / radius - 1
    _fill(canvas, value, 0.32, marrow - 30, z < -268)
    x = np.abs(points.x - person.spine_x(z)) - 96 * person.width
    a = points.a - person.spine_a(-300)
    head = np.hypot(np.hypot(x / 24, (a - 30) / 24), (z + 366) / 24) - 1
    canvas.bone((head > 0) & (head < 0.16) & (value > -0.3), 40.0)
    _fill(canvas, head, 0.1, marrow + 40)
