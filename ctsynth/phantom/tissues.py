"""What the phantom's organs look like: HU, walls, contents, gas and vessels in the portal-venous phase."""

from __future__ import annotations

import numpy as np

from ctsynth.phantom.canvas import FAT, Canvas
from ctsynth.phantom.organs import Anatomy
from ctsynth.phantom.shapes import Array, Mask, ramp

GAS = -880.0
"""HU of bowel gas, a little above air."""

_STOOL = {"ascending": 0.1, "transverse": -0.5, "descending": 0.35, "sigmoid": 0.2, "rectum": 0.1}
"""How full of stool, rather than gas, each part of the large bowel is."""


def paint_organs(canvas: Canvas, anatomy: Anatomy) -> None:
    """Paints organs and vessels, each into what those before it left free."""
    _vessels_first(canvas, anatomy)
    _behind(canvas, anatomy)
    _hollow(canvas, anatomy)
    _solid(canvas, anatomy)
    _large_bowel(canvas, anatomy)
    _pelvis(canvas, anatomy)
    _small_bowel(canvas, anatomy)
    _fat(canvas, anatomy)


def _textured(canvas: Canvas, mean: float, amount: float = 3.5) -> Array:
    return np.asarray(mean + amount * canvas.noise("texture"), np.float32)


def _vessels_first(canvas: Canvas, anatomy: Anatomy) -> None:
    """The large vessels, which nothing pushes aside, and the esophagus between them."""
    shapes, hu = anatomy.shapes, anatomy.hu
    aorta, cava = canvas.hard(shapes["aorta"]), canvas.hard(shapes["inferior_vena_cava"])
    canvas.put((aorta > 0) & (aorta < 0.06), 190.0)  # its wall holds some calcium
    canvas.put(aorta < 0, _textured(canvas, hu["aorta"]), "aorta")
    canvas.put(cava < 0, _textured(canvas, hu["vein"], 6), "inferior_vena_cava")
    kinds = {  # nothing mixes with the blood of the legs, which comes later
        "iliac_artery": hu["aorta"] - 6, "renal_artery": hu["aorta"] - 6, "mesenteric_artery": hu["aorta"] - 6,
        "celiac_artery": hu["aorta"] - 6, "iliac_vein": hu["vein"] - 25, "renal_vein": hu["vein"],
        "mesenteric_vein": hu["portal"], "splenic_vein": hu["portal"],
    }  # fmt: skip
    for name, shape in shapes.items():
        if (kind := name.removesuffix("_right").removesuffix("_left")) in kinds:
            canvas.put(canvas.hard(shape) < 0, kinds[kind])
    gullet = canvas.soft(shapes["esophagus"], 0.04)
    inside = canvas.put(gullet < 0, _textured(canvas, hu["esophagus"]), "esophagus")
    canvas.cover(inside & (gullet < -0.62) & (canvas.noise("contents") > 0.4), -500.0)


def _behind(canvas: Canvas, anatomy: Anatomy) -> None:
    """Adrenals and kidneys, with the fat around them that nothing else enters."""
    shapes, hu = anatomy.shapes, anatomy.hu
    for side in ("right", "left"):
        for limb in (0, 1):
            value = canvas.soft(shapes[f"adrenal_{side}_{limb}"], 0.1)
            canvas.put(value < 0, hu["adrenal"], f"adrenal_gland_{side}")
        value = canvas.soft(shapes[f"kidney_{side}"], 0.05)
        sinus = canvas.soft(shapes[f"sinus_{side}"], 0.3)
        canvas.put((sinus < 0) & (value < 0.05), _textured(canvas, FAT + 12, 6))
        pyramids = ramp(canvas.noise("contents"), 0.1, 0.7) * ramp(-value, 0.22, 0.34)
        canvas.put(value < 0, _textured(canvas, hu["kidney"]) - 26 * pyramids, f"kidney_{side}")
        canvas.put(value < 0.1 + 0.14 * anatomy.person.visceral, _textured(canvas, FAT, 6))


def _hollow(canvas: Canvas, anatomy: Anatomy) -> None:
    """Gallbladder, duodenum and stomach with walls and contents, and the pancreas among them."""
    shapes, hu = anatomy.shapes, anatomy.hu
    if "gallbladder" in shapes:
        value = canvas.soft(shapes["gallbladder"])
        inside = canvas.put(value < 0, hu["bile"], "gallbladder")
        canvas.cover(inside & (value > -0.12), hu["bile"] + 38)
    value = canvas.soft(shapes["duodenum"])
    inside = canvas.put(value < 0, _textured(canvas, hu["duodenum"], 6), "duodenum")
    lumen = inside & (value < -0.36)
    canvas.cover(lumen, 28 + 8 * canvas.noise("contents"))
    canvas.cover(lumen & (value < -0.45) & (canvas.noise("loop_1") > 1.8), GAS)
    value = canvas.soft(shapes["pancreas"], 0.14) + 0.16 * canvas.noise("lobules")
    fatty = 22 * ramp(canvas.noise("lobules"), 0.8, 1.8)
    canvas.put(value < 0, _textured(canvas, hu["pancreas"], 5) - fatty, "pancreas")
    value = canvas.soft(shapes["stomach"], 0.06)
    inside = canvas.put(value < 0, _textured(canvas, hu["stomach"], 5), "stomach")
    folds = 0.14 + 0.05 * canvas.noise("lobules")
    lumen = inside & (value < -folds)
    meal = anatomy.meal + 6 * canvas.noise("contents") + 6 * canvas.noise("lobules")
    canvas.cover(lumen, meal)
    gas = canvas.points.a > anatomy.stomach_level
    canvas.cover(lumen & (gas | (canvas.noise("contents") > 2.1)), GAS)


def _solid(canvas: Canvas, anatomy: Anatomy) -> None:
    """Spleen and liver, cut by all that is there already; the liver with vessels and lesions."""
    shapes, hu, points = anatomy.shapes, anatomy.hu, canvas.points
    canvas.put(canvas.soft(shapes["spleen"]) < 0, _textured(canvas, hu["spleen"]), "spleen")
    if points.axes[2][-1] < -250:
        return
    value = np.minimum(canvas.soft(shapes["liver_right"]), canvas.soft(shapes["liver_left"]))
    where = value < 0
    for without in ("fissure", "liver_hollow", "liver_bed"):
        where &= canvas.soft(shapes[without], 0.1) > 0
    beside = points.a - anatomy.person.spine_a(points.z)
    where &= np.hypot((canvas.warped.x + 10) / 36, (beside - 8) / 36) > 1
    liver = canvas.put(where, _textured(canvas, hu["liver"]), "liver")
    tubes = canvas.tubes("vessel")
    canvas.cover(liver & (tubes < 0.16) & (value < -0.08), hu["liver"] + 30)
    for name in ("portal_vein", "portal_left", "hepatic_right", "hepatic_middle", "hepatic_left"):
        vessel = canvas.soft(shapes[name], 0.15) < 0
        canvas.cover(liver & vessel, hu["liver"] + (46 if name.startswith("portal") else 34))
        canvas.put(vessel, hu["portal"])
    for lesion in anatomy.lesions:
        canvas.cover(liver & (canvas.soft(lesion) < 0), _textured(canvas, anatomy.lesion_hu))


def _large_bowel(canvas: Canvas, anatomy: Anatomy) -> None:
    """Colon and rectum: folded walls, stool that is mottled, gas above it."""
    points = canvas.points
    for name, fill in _STOOL.items():
        folds = 0.1 * np.sin(points.z / 4.5 + points.x / 6).astype(np.float32)
        value = canvas.soft(anatomy.shapes[name], 0.1) + folds
        inside = canvas.put(value < 0, _textured(canvas, anatomy.hu["bowel"], 5))
        lumen = inside & (value < -0.2)
        canvas.cover(lumen, 38 + 22 * canvas.noise("lobules") - 60 * ramp(canvas.noise("texture"), 0.5, 1.4))
        bubbles = canvas.noise("contents") + 0.02 * (points.a - 27) > 0.35 + fill
        canvas.cover(lumen & bubbles, GAS)


def _pelvis(canvas: Canvas, anatomy: Anatomy) -> None:
    shapes, hu = anatomy.shapes, anatomy.hu
    value = canvas.soft(shapes["urinary_bladder"], 0.05)
    inside = canvas.put(value < 0, _textured(canvas, hu["urine"], 2), "urinary_bladder")
    canvas.cover(inside & (value > -0.09), hu["urine"] + 36)
    value = canvas.soft(shapes["prostate"], 0.06)
    warm = 30 if anatomy.person.female else 10
    canvas.put(value < 0, _textured(canvas, hu["prostate"], 6) + warm * ramp(-value, 0.3, 0.5), "prostate")


def _small_bowel(canvas: Canvas, anatomy: Anatomy) -> None:
    """Loops: thick tubes around the lines where two random fields vanish, thinner the more fat there is."""
    points, person = canvas.points, anatomy.person
    if points.axes[2][0] > -140:
        return
    spine = person.spine_a(points.z)
    top = ramp(points.z + 0.35 * (points.a - 40), -178, -158)
    behind = ramp(spine + 52 * person.depth - points.a, -10, 12) * ramp(points.z, -280, -255)
    closed = top + behind + ramp(-points.z, 318, 342)
    for first, second, reach in (("loop_1", "loop_2", 0.86), ("loop_3", "loop_4", 0.9)):
        value = np.hypot(canvas.noise(first), canvas.noise(second)) / (reach - 0.34 * person.visceral) - 1
        value += 0.1 * canvas.noise("wobble") + closed
        inside = canvas.put(value < 0, _textured(canvas, anatomy.hu["bowel"] + 20, 6))
        lumen = inside & (value < -0.22 + 0.06 * canvas.noise("lobules"))
        canvas.cover(lumen, 30 + 14 * canvas.noise("contents"))
        gas = (value < -0.35) & (canvas.noise("warp_a") + 0.015 * (points.a - 30) > 1.9)
        canvas.cover(lumen & gas, GAS)


def _fat(canvas: Canvas, anatomy: Anatomy) -> None:
    """What is left is fat, with mesenteric vessels."""
    strands: Mask = canvas.tubes("mesentery") < 0.15
    canvas.cover(canvas.free, _textured(canvas, FAT + 2, 2) + 6 * canvas.noise("fat"))
    canvas.cover(canvas.free & strands & (canvas.points.z < -100), anatomy.hu["portal"] - 30)
