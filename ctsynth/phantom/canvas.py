"""Some neighboring slices of a phantom in the making, and the person whom they are of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctsynth.labels import AMOS22, BACKGROUND
from ctsynth.phantom.shapes import Array, Field, Mask, Points, Shape, follow

AIR, FAT, MUSCLE = -1000.0, -102.0, 58.0
"""HU."""

_IDS = {organ.name: organ.id for organ in AMOS22.classes}

_KNOTS = {  # mm; a field of its own for every purpose, so that one does not follow the other
    "warp_x": 60, "warp_a": 60, "warp_z": 60, "wobble": 24,
    "fat": 9, "texture": 9, "lobules": 6, "contents": 12,
    "vessel_1": 28, "vessel_2": 28, "mesentery_1": 17, "mesentery_2": 17,
    "loop_1": 23, "loop_2": 23, "loop_3": 23, "loop_4": 23,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Size, habitus and sex; lengths in mm.

    Args:
        female: Uterus or prostate; hips or shoulders.
        half_width: Half width of the muscular wall at the waist, without the fat and skin over it.
        half_depth: Likewise, toward the front.
        fat: Under the skin at the side, in front and behind.
        visceral: Fat around the bowel, from 0 (none to speak of) to 1.
        center: Where the person lies in the field of view (x, a).
        bend: How far the spine leaves the middle to the right.
        lordosis: How far the lumbar spine comes forward.
        dome: Height of the diaphragm.
    """

    female: bool
    half_width: float
    half_depth: float
    fat: tuple[float, float, float]
    visceral: float
    center: tuple[float, float]
    bend: float
    lordosis: float
    dome: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Person:
        """Draws a person."""
        female = bool(rng.random() < 0.5)
        build = rng.random()  # lean to obese: what goes with it goes together
        side, front, back, visceral = np.clip(build + rng.normal(0, 0.2, 4), 0, 1).tolist()
        return cls(
            female=female,
            half_width=float(np.clip(rng.normal(140 if female else 147, 6) + 4 * build, 128, 157)),
            half_depth=float(np.clip(rng.normal(100 if female else 105, 5) + 10 * visceral, 92, 123)),
            fat=(7 + 17 * side, 8 + 24 * front, 6 + 8 * back),
            visceral=visceral,
            center=(float(rng.uniform(-6, 6)), float(rng.uniform(-4, 12))),
            bend=float(rng.normal(0, 4)),
            lordosis=float(rng.uniform(5, 13)),
            dome=float(rng.normal(-22, 6)),
        )

    @property
    def width(self) -> float:
        """Half-width over the mean; what lies sideways scales with it."""
        return self.half_width / 146

    @property
    def depth(self) -> float:
        """Half-depth over the mean; what lies forward scales with it."""
        return self.half_depth / 107

    def spine_x(self, z: Array | float) -> Array:
        """Middle of the vertebrae, mm to the right: a slight S."""
        return np.asarray(self.bend * np.sin((np.asarray(z) + 40) / 75), np.float32)

    def spine_a(self, z: Array | float) -> Array:
        """Middle of the vertebral bodies, mm forward: kyphosis of the chest, lordosis of the loins, sacrum."""
        loins = follow(z, (-295, -250, -215, -130, -60, 0), (-0.4, 0.9, 1, 0.2, -0.4, -0.5))
        sacrum = follow(z, (-370, -335, -295), (-26, -18, 0))
        return loins * np.float32(self.lordosis) + sacrum - np.float32(45 * self.depth)

    def beside_spine(self, x: float, forward: float, z: float) -> tuple[float, float, float]:
        """A point given from the middle of the vertebral body at its height."""
        return x * self.width + float(self.spine_x(z)), float(self.spine_a(z)) + forward * self.depth, z

    def place(self, x: float, a: float, z: float) -> tuple[float, float, float]:
        """A point of the mean person, in this one."""
        return x * self.width, a * self.depth, z


class Fields:
    """A subject's random fields by name.

    Args:
        seeds: Parent of the fields' own seeds.
    """

    def __init__(self, seeds: np.random.SeedSequence) -> None:
        own = zip(_KNOTS.items(), seeds.spawn(len(_KNOTS)), strict=True)
        self._fields = {
            name: Field(np.random.Generator(np.random.Philox(seed)), knot) for (name, knot), seed in own
        }

    def __getitem__(self, name: str) -> Field:
        return self._fields[name]


@dataclass(eq=False)
class Canvas:
    """Slices in the making, (K, X, Y) each.

    Args:
        person: Whose they are.
        points: Where the voxels lie, from the middle of the person.
        fields: The person's random fields.
    """

    person: Person
    points: Points
    fields: Fields
    hu: Array = field(init=False)
    labels: NDArray[np.uint8] = field(init=False)
    body: Mask = field(init=False)
    free: Mask = field(init=False)

    def __post_init__(self) -> None:
        shape = self.points.shape
        self.hu = np.full(shape, AIR, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.body = np.zeros(shape, np.bool_)
        self.free = np.zeros(shape, np.bool_)
        self._noise: dict[str, Array] = {}
        x, a, z = (np.clip(self.noise(f"warp_{axis}"), -3, 3) for axis in "xaz")
        self.warped = self.points.moved(4 * x, 4 * a, 6 * z)

    def noise(self, name: str) -> Array:
        """The values of a random field, mean 0 and variance 1."""
        if name not in self._noise:
            self._noise[name] = self.fields[name].at(self.points)
        return self._noise[name]

    def tubes(self, name: str) -> Array:
        """How far, in the fields' units, from the lines where two random fields vanish: tubes that branch."""
        return np.asarray(np.hypot(self.noise(f"{name}_1"), self.noise(f"{name}_2")))

    def soft(self, shape: Shape, wobble: float = 0.07) -> Array:
        """The value of an organ's shape: warped as flesh is, and its surface made uneven."""
        value = shape.value(self.warped)
        return value + np.float32(wobble) * self.noise("wobble")

    def hard(self, shape: Shape) -> Array:
        """The value of a shape as it is."""
        return shape.value(self.points)

    def put(self, where: Mask, hu: float | Array, organ: str | None = None) -> Mask:
        """Fills what is still free with a tissue, which is then taken; returns it.

        Args:
            where: The tissue; only its free part is filled.
            hu: One value, or a (K, X, Y) texture.
            organ: Name of the class in AMOS22; none is body.
        """
        where = where & self.free
        self.cover(where, hu)
        self.free &= ~where
        if organ:
            self.labels[where] = _IDS[organ]
        return where

    def cover(self, where: Mask, hu: float | Array) -> None:
        """Changes the HU of voxels, whatever they are."""
        if isinstance(hu, np.ndarray):
            np.copyto(self.hu, hu, where=where)
        else:
            self.hu[where] = hu

    def bone(self, where: Mask, hu: float | Array) -> None:
        """Bone, which is put over everything and is no organ."""
        self.cover(where, hu)
        self.labels[where] = BACKGROUND
        self.free &= ~where
