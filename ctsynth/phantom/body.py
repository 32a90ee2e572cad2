"""The phantom's body without its organs: skin, fat, muscle, lungs, heart, and the table beneath."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctsynth.phantom.canvas import FAT, MUSCLE, Canvas, Person
from ctsynth.phantom.shapes import Array, Column, Ellipsoid, Mask, bump, follow, ramp

_EXPONENT = 2.35
"""Exponent of the superellipse that the muscular wall follows: between an ellipse and a rounded box."""

_SKIN = 2.2
"""Thickness, mm."""


@dataclass(frozen=True, eq=False, slots=True)
class Wall:
    """The wall of chest, abdomen and pelvis.

    Shapes:
        depth: (K, X, Y); mm inward from its outer surface, negative in the fat under the skin and outside.
        thickness: (K, X, Y); mm.
        front, back: (K, X, Y); 1 in front, or behind; 0 elsewhere.
    """

    depth: Array
    thickness: Array
    front: Array
    back: Array

    @property
    def inner(self) -> Array:
        """(K, X, Y); mm inward from its inner surface."""
        return self.depth - self.thickness


def paint_body(canvas: Canvas) -> Wall:
    """Paints all but organs and bones, and leaves free what organs may fill."""
    wall = _wall(canvas)
    _skin_and_fat(canvas, wall)
    _muscle(canvas, wall)
    _cavity(canvas, wall)
    _chest(canvas, wall)
    return wall


def _wall(canvas: Canvas) -> Wall:
    person, points = canvas.person, canvas.points
    x, a, z = points.x, points.a, points.z
    hips = (1.06, 1.07, 0.97, 1.0, 0.96) if person.female else (1.0, 1.02, 0.97, 1.0, 0.98)
    scale = follow(z, (-370, -300, -220, -120, 0), hips)
    furrow = 1 - np.float32(0.07) * bump(x, 16)  # along the spine
    half_depth = person.half_depth * (1 + scale) / 2 * np.where(a < 0, 0.9 * furrow, 1).astype(np.float32)
    u, v = np.abs(x) / (person.half_width * scale), np.abs(a) / half_depth
    up, vp = u ** (_EXPONENT - 1), v ** (_EXPONENT - 1)
    level = np.maximum(u * up + v * vp, 1e-3) ** (1 / _EXPONENT)
    slope = level ** (1 - _EXPONENT) * np.hypot(up / (person.half_width * scale), vp / half_depth)
    depth = (1 - level) / np.maximum(slope, 1e-4)
    front, back = ramp(v * np.sign(a), 0.45, 0.85), ramp(-v * np.sign(a), 0.3, 0.8)
    lean = 1 - 0.25 * person.visceral
    seams = 6 * bump(x, 4) * ramp(-z, 40, 100) + 4.5 * bump(np.abs(x) - 62 * person.width, 8)
    thickness = lean * (13 - front * seams) - 2 * front + 3 * back
    thickness = thickness + ramp(-z, 255, 325) * (1 - front) * (22 + 10 * back)  # the muscles of the buttocks
    return Wall(depth.astype(np.float32), thickness.astype(np.float32), front, back)


def _skin_and_fat(canvas: Canvas, wall: Wall) -> None:
    person, points = canvas.person, canvas.points
    x, a, z = points.x, points.a, points.z
    side, front, back = person.fat
    across = (x / person.half_width) ** 2
    across = across / (across + (a / person.half_depth) ** 2 + 1e-3)
    ahead = ramp(a, -30, 30)
    fat = across * side + (1 - across) * (ahead * front + (1 - ahead) * back)
    fat = fat * follow(z, (-370, -290, -120, -20), (1.25, 1.15, 0.9, 0.75))
    fat = fat + ramp(-z, 280, 350) * wall.back * (8 if person.female else 4)
    fat = fat - (0.75 * fat) * bump(x, 6) * bump(z + 222, 9) * wall.front  # navel
    fat = np.maximum(fat, 4) - ramp(-z, 318, 345) * bump(x, 5) * wall.back * 16  # between the buttocks
    out = -wall.depth - fat
    canvas.body |= out < _SKIN
    pixel = float(points.axes[0][1] - points.axes[0][0])
    inside, under = _covered(_SKIN - out, pixel), _covered(-out, pixel)
    tissue = FAT + 6 * canvas.noise("fat") + (25 - FAT) * inside * (1 - under) * (_SKIN / max(_SKIN, pixel))
    canvas.hu += inside * (tissue - canvas.hu)


def _covered(deep: Array, pixel: float) -> Array:
    """Share of a pixel that lies inside a surface, given how deep its center does, mm."""
    return np.asarray(np.clip(0.5 + deep / pixel, 0, 1))


def _muscle(canvas: Canvas, wall: Wall) -> None:
    """The wall, whose layers are parted at the sides by thin fat, and the muscles along spine and hips."""
    z = canvas.points.z
    meat = MUSCLE + 4 * canvas.noise("texture") - 30 * ramp(canvas.noise("lobules"), 1.4, 2.4)
    inside = wall.depth > 0
    canvas.cover(inside & (wall.inner < 0), meat)
    layered = inside & (wall.front < 0.5) & (wall.back < 0.6) & (z < -165) & (z > -285)
    for share in (0.36, 0.68):
        line = np.abs(wall.depth - share * wall.thickness + 1.2 * canvas.noise("wobble")) < 0.9
        canvas.cover(layered & line, FAT + 55)
    septa = (np.abs(canvas.noise("loop_1")) < 0.07) & (z < -281)
    canvas.cover(septa & inside & (wall.inner < 0), FAT + 45)
    for muscle, uneven in _along_spine(canvas.person):
        value = canvas.hard(muscle) + uneven * canvas.noise("wobble")
        canvas.cover((value < 0) & inside, meat)
        canvas.cover((np.abs(value) < 0.035) & inside & (wall.inner > -8), FAT + 40)
    if canvas.points.axes[2][0] < -272:
        _hip_muscle(canvas, inside, meat)


def _along_spine(person: Person) -> list[tuple[Column, float]]:
    """Erector spinae, quadratus lumborum and psoas, right and left, and how uneven their surfaces are."""
    heights = np.linspace(-385, 10, 10, dtype=np.float32)
    spine = [(float(z), float(person.spine_x(z)), float(person.spine_a(z))) for z in heights]
    muscles = []
    for side in (-1, 1):
        erector = [(z, x + side * 34, a - 36, 31.0, 23.0) for z, x, a in spine]
        quadratus = [(z, x + side * 66 * person.width, a - 29, 17.0, 8.0) for z, x, a in spine[2:6]]
        psoas = []
        for z, x, a in spine[:7]:
            out = float(np.interp(z, (-370, -320, -130), (76, 58, 31)))
            forward = float(np.interp(z, (-370, -320, -200, -130), (62, 32, 0, -6)))
            radius = float(np.interp(z, (-370, -320, -230, -130), (17, 22, 19, 5)))
            psoas.append((z, x + side * out, max(a, -48.0) + forward, radius, 1.15 * radius))
        muscles += [(Column(erector), 0.04), (Column(quadratus), 0.08), (Column(psoas), 0.1)]
    return muscles


def _hip_muscle(canvas: Canvas, inside: Mask, meat: Array) -> None:
    """Muscle on both sides of the iliac bones, and the upper ends of the thighs' muscles in front."""
    person, points = canvas.person, canvas.points
    distance, radius = iliac_wing(canvas)
    sheet = ramp(-points.z, 272, 300) * (8 + 8 * ramp(-points.z, 320, 350)) + 2 * canvas.noise("wobble")
    canvas.cover(inside & (distance < radius + sheet) & (points.z < -272), meat)
    thigh = np.hypot((np.abs(points.x) - 102 * person.width) / 30, (points.a - 46 * person.depth) / 22) - 1
    thigh = thigh + 0.2 * canvas.noise("wobble") + 1.2 * ramp(points.z, -345, -305)
    canvas.cover(inside & (thigh < 0), meat)
    canvas.cover(inside & (np.abs(thigh) < 0.05), FAT + 30)


def iliac_wing(canvas: Canvas) -> tuple[Array, Array]:
    """Distance from the middle of the iliac bones, and half their thickness, mm; right and left are alike."""
    person, points = canvas.person, canvas.points
    z = points.z
    x = np.abs(points.x - person.spine_x(z)) / np.float32(person.width)
    a = points.a - person.spine_a(-300)  # they do not follow the curve of the sacrum
    heights = (-372, -345, -310, -285, -268)
    inner = ((92, 90, 62, 60, 66), (-8, -16, -30, -24, -10))
    middle = ((96, 97, 86, 86, 86), (18, 6, -8, -9, -2))
    outer = ((98, 106, 112, 112, 104), (46, 44, 34, 22, 8))
    ends = [[follow(z, heights, row) for row in pair] for pair in (inner, middle, outer)]
    radius = follow(z, heights, (13, 11, 6.5, 6, 5))
    return np.asarray(np.minimum(_segment(x, a, *ends[0], *ends[1]), _segment(x, a, *ends[1], *ends[2]))), radius


def _segment(x: Array, a: Array, x0: Array, a0: Array, x1: Array, a1: Array) -> Array:
    """Distance from a straight piece, in each axial plane."""
    dx, da = x1 - x0, a1 - a0
    t = np.clip(((x - x0) * dx + (a - a0) * da) / (dx * dx + da * da), 0, 1)
    return np.asarray(np.hypot(x - x0 - t * dx, a - a0 - t * da))


def _cavity(canvas: Canvas, wall: Wall) -> None:
    """What organs may fill: inside the wall, and no muscle."""
    canvas.free |= (wall.inner > 1.5) & (canvas.hu < -60)


def diaphragm(canvas: Canvas) -> Array:
    """Its height at every point, mm: two domes, the left one lower, that fall off to the sides and behind."""
    person, points = canvas.person, canvas.points
    x, a = points.x, points.a
    ahead = ((a - 4) / (0.88 * person.half_depth)) ** 2
    right = ((x - 58 * person.width) / (0.6 * person.half_width)) ** 2 + ahead
    left = ((x + 66 * person.width) / (0.55 * person.half_width)) ** 2 + ahead
    height = person.dome - np.minimum(62 * right**1.4, 14 + 62 * left**1.4) - 24 * ramp(-a, 0, 60)
    lowest = person.dome - 44 - 90 * ramp(30 - a, 0, 80)  # it is fixed higher in front
    return np.asarray(np.maximum(height, lowest) + 3 * canvas.noise("warp_z"), np.float32)


def _chest(canvas: Canvas, wall: Wall) -> None:
    """Lungs and heart above the diaphragm, and the diaphragm itself; below it all stays free."""
    if canvas.points.axes[2][-1] < -200:
        return
    person, points = canvas.person, canvas.points
    above = points.z - diaphragm(canvas)
    inside = wall.inner > 1
    spine = person.spine_a(points.z)
    middle = np.hypot(points.x / 27, (points.a - spine - 35) / 42) < 1
    chest = inside & (above > 0)
    heart = canvas.soft(Ellipsoid(person.place(-24, 26, 2), (64 * person.width, 48 * person.depth, 46)), 0.05)
    behind = (np.abs(points.x) < 26) & (points.a < spine)
    lung = chest & ~middle & ~behind & (heart > 0.1)
    smooth = np.float32(-860) + 25 * canvas.noise("contents") - np.float32(0.35) * (points.a + 20)
    canvas.cover(lung, smooth + 700 * ramp(-canvas.tubes("mesentery"), -0.22, -0.1))
    muscle = chest & (heart < 0)
    canvas.cover(muscle, 105 + 4 * canvas.noise("texture"))
    chambers = ((heart < -0.2) & (np.abs(canvas.noise("wobble")) > 0.25)) & muscle
    canvas.cover(chambers, 150.0)
    sheet = inside & (np.abs(above) < 1.3) & ~(heart < 0)
    canvas.cover(sheet, MUSCLE - 6)
    canvas.free &= above < -1.3
    canvas.free |= chest & middle & (heart > 0.1)  # for the vessels and the esophagus


def paint_table(canvas: Canvas) -> None:
    """Two thin arcs of carbon fiber with foam between, and a mat that the person lies on."""
    points, person = canvas.points, canvas.person
    pixel = float(points.axes[0][1] - points.axes[0][0])
    lowest = 0.94 * person.half_depth + 1.25 * person.fat[2] + (8 if person.female else 4) + _SKIN
    radius = 400.0
    above = radius - np.hypot(points.x + person.center[0], points.a + lowest + 4 - radius)
    above = np.broadcast_to(above, points.shape)
    wide = np.abs(points.x + person.center[0]) < 185
    outside = ~canvas.body & wide
    thick = max(3.0, 1.6 * pixel)
    canvas.cover(outside & (above < 0) & (above > -26), -960.0)
    for depth, hu in ((2.0, 220.0), (26.0, 140.0)):
        share = np.clip(1.2 - np.abs(above + depth) / thick, 0, 1)
        canvas.hu += outside * share * (hu - canvas.hu)
