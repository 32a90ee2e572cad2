"""The phantom's organs and vessels: where they lie and how large they are, from subject to subject.

Positions are those of the mean person, mm. Liver, spleen and stomach are drawn too large: they fill only what the
wall, the diaphragm and the organs before them leave, and so follow ribs and diaphragm as they do in life.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctsynth.phantom.canvas import Person
from ctsynth.phantom.shapes import Column, Ellipsoid, Shape, Tube

Position = tuple[float, float, float]

_HU = {  # portal-venous phase; mean and standard deviation between subjects
    "liver": (108, 11), "spleen": (118, 10), "kidney": (175, 16), "pancreas": (95, 9), "aorta": (158, 15),
    "vein": (145, 14), "portal": (152, 14), "bile": (8, 5), "stomach": (78, 8), "duodenum": (72, 6),
    "esophagus": (45, 6), "adrenal": (75, 8), "urine": (8, 4), "prostate": (62, 8), "bowel": (66, 8),
}  # fmt: skip

_NO_GALLBLADDER = 0.12
"""Share of people who have lost theirs."""

_STOMACH = (
    (-26, -2, -66), (-56, -6, -58), (-66, 14, -82), (-58, 42, -114), (-24, 58, -140), (14, 54, -138),
    (28, 46, -134),
)  # fmt: skip
_DUODENUM = (  # this and the next from the spine, a C around the head of the pancreas
    (32, 84, -135), (46, 72, -142), (52, 56, -160), (48, 48, -184), (30, 44, -201), (2, 50, -205), (-28, 54, -194),
)  # fmt: skip
_PANCREAS = ((37, 60, -182), (30, 64, -164), (10, 68, -148), (-16, 66, -140), (-48, 46, -128), (-78, 37, -114))
_TRANSVERSE = (
    (84, 12, -164), (66, 46, -176), (34, 66, -190), (-6, 70, -194), (-44, 62, -178), (-74, 38, -150),
    (-94, 6, -130),
)  # fmt: skip
_SIGMOID = ((-92, 2, -272), (-82, 14, -296), (-48, 22, -304), (-14, 12, -296), (10, -12, -300), (4, -38, -314))
_RECTUM = ((-385, -44), (-350, -46), (-325, -44), (-306, -36))  # z and a

_PORTAL = {  # from the spine: knots and radii
    "portal_vein": (((6, 74, -152), (24, 70, -132), (40, 66, -112), (72, 51, -98)), (8, 7.5, 7.5, 5)),
    "portal_left": (((36, 68, -114), (16, 81, -92), (-8, 89, -84)), (6, 5.5, 3.5)),
    "splenic_vein": (((6, 70, -150), (-20, 56, -140), (-50, 36, -126), (-84, 31, -106)), (5.5, 5, 4.5, 4)),
    "hepatic_right": (((26, 44, -54), (62, 31, -62), (102, 15, -84)), (6, 4.5, 2.5)),
    "hepatic_middle": (((26, 46, -52), (42, 69, -58), (56, 93, -84)), (5.5, 4, 2.5)),
    "hepatic_left": (((24, 50, -50), (2, 79, -56), (-22, 91, -70)), (5, 4, 2.5)),
    "mesenteric_vein": (((8, 72, -152), (10, 68, -190), (14, 74, -232), (24, 84, -272)), (6, 6, 5, 3)),
    "mesenteric_artery": (((-7, 42, -148), (-7, 60, -168), (-4, 68, -200), (4, 80, -262)), (3.8, 3.8, 3.5, 2.5)),
    "celiac_artery": (((-8, 40, -128), (-8, 58, -130), (-30, 56, -124)), (4, 3.5, 3)),
}


@dataclass(frozen=True, eq=False, slots=True)
class Anatomy:
    """A person's organs.

    Args:
        person: Whose they are.
        shapes: Organs and vessels by name; no gallbladder in some.
        lesions: Lesions of the liver.
        hu: Mean HU by tissue.
        stomach_level: Above it, in mm forward, the stomach holds gas.
        meal: HU of what the stomach holds below that.
        lesion_hu: HU of the lesions.
    """

    person: Person
    shapes: dict[str, Shape]
    lesions: tuple[Ellipsoid, ...]
    hu: dict[str, float]
    stomach_level: float
    meal: float
    lesion_hu: float

    @classmethod
    def draw(cls, person: Person, rng: np.random.Generator) -> Anatomy:
        """Draws the organs of a person."""
        vary = _Variation(person, rng)
        shapes = _retroperitoneum(vary) | _upper(vary) | _bowel(vary) | _pelvic(vary) | _vessels(vary)
        if rng.random() < _NO_GALLBLADDER:
            del shapes["gallbladder"]
        return cls(
            person=person,
            shapes=shapes,
            lesions=tuple(_lesion(vary) for _ in range(rng.poisson(0.6))),
            hu={name: float(rng.normal(mean, spread)) for name, (mean, spread) in _HU.items()},
            stomach_level=float(rng.uniform(30, 62)) * person.depth,
            meal=float(rng.uniform(5, 45)),
            lesion_hu=float(rng.uniform(5, 60)),
        )


class _Variation:
    """Draws shapes near the mean person's.

    Args:
        person: Whose organs they become.
        rng: For all that varies.
    """

    def __init__(self, person: Person, rng: np.random.Generator) -> None:
        self.person = person
        self.rng = rng
        self._size = float(np.clip(rng.normal(1, 0.04), 0.9, 1.1))

    def ellipsoid(
        self, at: Position, radii: tuple[float, float, float], lean: tuple[float, float] = (0, 0)
    ) -> Ellipsoid:
        """An ellipsoid moved by some mm, whose radii vary together and a little apart."""
        x, a, z = (np.array(at) + self.rng.normal(0, 3, 3)).tolist()
        scale = self._size * self.rng.normal(1, 0.06) * self.rng.normal(1, 0.03, 3)
        rx, ra, rz = (np.array(radii) * scale).tolist()
        return Ellipsoid((x, a, z), (rx, ra, rz), lean)

    def tube(self, knots: list[Position], radii: tuple[float, ...], spread: float = 3.0) -> Tube:
        """A tube that is moved, and every knot of it a little more; ``spread`` in mm."""
        moved = np.array(knots) + self.rng.normal(0, spread, 3) + self.rng.normal(0, spread / 2, (len(knots), 3))
        scale = self.rng.normal(1, 0.06)
        return Tube([(x, a, z) for x, a, z in moved.tolist()], [r * scale for r in radii])

    def uneven(self, radii: tuple[float, ...]) -> tuple[float, ...]:
        """Radii of a bowel that is wider here and narrower there."""
        return tuple(r * self.rng.uniform(0.85, 1.17) for r in radii)


def _retroperitoneum(vary: _Variation) -> dict[str, Shape]:
    """Kidneys with their sinus and vessels, and the adrenals: two limbs each."""
    rng, spine = vary.rng, vary.person.beside_spine
    shapes: dict[str, Shape] = {}
    for side, name, height in ((1, "right", -174.0), (-1, "left", -160.0)):
        height += float(rng.normal(0, 6))
        kidney = vary.ellipsoid(spine(side * 67, 14, height), (25.5, 27, 54), (-0.2 * side, 0.12))
        (x, a, z), (rx, ra, rz) = kidney.center, kidney.radii
        sinus = Ellipsoid((x - side * 0.52 * rx, a + 3, z), (0.5 * rx, 0.24 * ra, 0.38 * rz), kidney.lean)
        shapes |= {f"kidney_{name}": kidney, f"sinus_{name}": sinus}
        hilum = (x - side * 0.75 * rx, a + 3, z)
        artery, vein = spine(-9, 33, z + 12), spine(19, 30, z + 8)
        before = spine(-12, 48, z + 6) if side < 0 else vein  # the left one crosses in front of the aorta
        shapes[f"renal_artery_{name}"] = Tube([artery, hilum], [4, 3])
        shapes[f"renal_vein_{name}"] = Tube([vein, before, hilum], [5.5, 5.5, 5])
        x, a, z = spine(side * 34, 27, -104 + float(rng.normal(0, 3)))
        long = rng.uniform(0.9, 1.25)
        for limb, out in enumerate((-3 * side, 7 * side)):
            knots = [(x, a + 6, z + 4), (x + out, a - 12 * long, z - 12), (x + 1.5 * out, a - 20 * long, z - 24)]
            shapes[f"adrenal_{name}_{limb}"] = Tube(knots, [4.6, 3.6, 3.0])
    return shapes


def _upper(vary: _Variation) -> dict[str, Shape]:
    """Liver with its fissure and the hollow beneath it, gallbladder and spleen."""
    place, left = vary.person.place, float(vary.rng.uniform(0.8, 1.1))
    behind = vary.person.beside_spine(54, -6, -190)
    return {
        "liver_right": vary.ellipsoid(place(74, -4, -84), (98, 96, 92), (-0.1, 0)),
        "liver_left": vary.ellipsoid(place(0, 42, -74), (78 * left, 44, 46 * left)),
        "liver_hollow": vary.ellipsoid(place(-10, -2, -160), (66, 62, 66)),
        "liver_bed": vary.ellipsoid(behind, (44, 44, 78)),  # of the kidney, behind which the liver does not reach
        "fissure": Ellipsoid(place(float(vary.rng.normal(14, 4)), 62, -125), (3, 26, 36), (0.06, 0)),
        "gallbladder": vary.ellipsoid(place(47, 44, -138), (13, 18, 27), (-0.1, 0.35)),
        "spleen": vary.ellipsoid(place(-104, -30, -94), (37, 52, 52), (0.12, 0.1)),
    }


def _lesion(vary: _Variation) -> Ellipsoid:
    x, a, z, r = vary.rng.uniform((30, -45, -130, 5), (105, 40, -50, 13)).tolist()
    return Ellipsoid(vary.person.place(x, a, z), (r, r, r))


def _bowel(vary: _Variation) -> dict[str, Shape]:
    """From the esophagus to the rectum but for the small bowel's loops; and the pancreas in the duodenum's C."""
    person, rng = vary.person, vary.rng
    place, spine = person.place, person.beside_spine
    full, droop = rng.uniform(0.82, 1.18), rng.normal(0, 12)
    stomach = (12.0, *(full * r for r in (33, 37, 32, 25)), 19.0, 13.0)
    gullet = [spine(-8, 42, -10), spine(-11, 44, -40), spine(-18, 46, -64), place(-26, -2, -72)]
    arc = [place(x, a, z + droop * (1 - (x / 90) ** 2)) for x, a, z in _TRANSVERSE]
    ascending = [place(98, -8 + 0.08 * (z + 272), z) for z in (-272, -252, -232, -212, -192, -172, -152)]
    descending = [place(-103, -14, z) for z in (-272, -249, -227, -204, -181, -159, -136)]
    rectum = [(z, float(person.spine_x(z)), a * person.depth, 18.0, 15.0) for z, a in _RECTUM]
    return {
        "esophagus": Tube(gullet, [8.5, 8.5, 8.5, 9]),
        "stomach": vary.tube([place(*knot) for knot in _STOMACH], stomach),
        "duodenum": vary.tube([spine(*knot) for knot in _DUODENUM], (13, 13, 13, 13, 12, 11, 11), 2),
        "pancreas": vary.tube([spine(*knot) for knot in _PANCREAS], (16, 15, 10.5, 11, 10.5, 8.5), 2),
        "ascending": vary.tube(ascending, vary.uneven((20, 26, 25, 24, 25, 24, 20))),
        "transverse": vary.tube(arc, vary.uneven((22, 21, 18, 17, 17, 16, 15)), 4),
        "descending": vary.tube(descending, vary.uneven((15, 16, 15, 16, 17, 16, 17))),
        "sigmoid": vary.tube([place(*knot) for knot in _SIGMOID], vary.uneven((14, 15, 15, 15, 14, 15)), 5),
        "rectum": Column(rectum),
    }


def _pelvic(vary: _Variation) -> dict[str, Shape]:
    """Bladder; the prostate beneath it, or the uterus behind it, which share a class."""
    place = vary.person.place
    rx, ra, rz = vary.rng.uniform((30, 26, 20), (45, 38, 30)).tolist()
    if vary.person.female:
        bladder, organ = place(0, 24, -334), vary.ellipsoid(place(0, -6, -327), (30, 21, 24), (0, -0.3))
    else:
        bladder, organ = place(0, 20, -326), vary.ellipsoid(place(0, 0, -357), (25, 20, 18))
    return {"urinary_bladder": vary.ellipsoid(bladder, (rx, ra, rz)), "prostate": organ}


def _vessels(vary: _Variation) -> dict[str, Shape]:
    """Aorta and vena cava with their forks, the portal and hepatic veins, and those of the mesentery."""
    spine, place, rng = vary.person.beside_spine, vary.person.place, vary.rng
    r, flat = float(np.clip(rng.normal(11, 1.2), 8.5, 15)), float(rng.uniform(0.8, 1.15))
    aorta = ((-6, 32, -236), (-8, 33, -180), (-9, 32, -120), (-12, 28, -60), (-16, 24, 20))
    cava = ((15, 28, -243), (19, 30, -180), (21, 34, -120), (24, 42, -60), (22, 52, 20))
    shapes: dict[str, Shape] = {
        "aorta": Column([(z, *spine(x, a, z)[:2], r, r) for x, a, z in aorta]),
        "inferior_vena_cava": Column([(z, *spine(x, a, z)[:2], 13 / flat, 9.5 * flat) for x, a, z in cava]),
    }
    for name, (knots, radii) in _PORTAL.items():
        shapes[name] = Tube([spine(*knot) for knot in knots], radii)
    for side, name in ((1, "right"), (-1, "left")):
        artery = [place(side * 44, -6, -300), place(side * 62, 26, -340), place(side * 68, 56, -375)]
        vein = [(x - side * 8, a - 12, z) for x, a, z in artery]
        shapes[f"iliac_artery_{name}"] = Tube([spine(-6, 34, -234), *artery], [7.5, 6.5, 6, 5.5])
        shapes[f"iliac_vein_{name}"] = Tube([spine(14, 26, -240), *vein], [9, 8, 7.5, 7])
    return shapes
