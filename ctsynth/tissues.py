"""The tissues that a label set's body can be split into: their names, and the Hounsfield units between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

from ctsynth.errors import UsageError

SUFFIX = "+tissues"
"""Ends the name of a label set whose body is split: ``amos22+tissues``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TissueThresholds:
    """Hounsfield units at which one tissue of the body ends and the next begins."""

    gas_below: float = -300
    """Lung and bowel gas."""

    fat_below: float = -30
    """Fat, where it is not gas."""

    dense_above: float = 150
    """Bone, calcium, and contrast agent in bowel and vessels, which no threshold tells apart."""

    def __post_init__(self) -> None:
        if not -1024 < self.gas_below < self.fat_below < self.dense_above < 3000:
            raise UsageError(f"tissue thresholds must rise, within -1024 to 3000 HU, not be {asdict(self)}")


class Tissue(NamedTuple):
    """A tissue by rising Hounsfield units.

    Args:
        name: As label sets have it.
        color: ``#rrggbb``, for pictures.
        aliases: Classes of TotalSegmentator's ``total`` and ``tissue_types`` that are of it.
    """

    name: str
    color: str
    aliases: tuple[str, ...]


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))


_VERTEBRAE = tuple(
    f"vertebrae_{part}{n}"
    for part, count in (("C", 7), ("T", 12), ("L", 6), ("S", 1))
    for n in range(1, count + 1)
)
_RIBS = tuple(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13))
_LOBES = ("upper_lobe_left", "lower_lobe_left", "upper_lobe_right", "middle_lobe_right", "lower_lobe_right")

GAS = Tissue("gas", "#5b7f95", ("lung", *_both("lung"), *(f"lung_{lobe}" for lobe in _LOBES), "trachea"))
FAT = Tissue("fat", "#e3cf9a", ("subcutaneous_fat", "torso_fat", "intermuscular_fat"))
SOFT = Tissue(
    "soft_tissue",
    "#a8655f",
    (
        "skeletal_muscle", "muscle", "heart", "small_bowel", "colon", "portal_vein_and_splenic_vein",
        "pulmonary_vein", "superior_vena_cava", "brachiocephalic_trunk", "spinal_cord", "brain", "thyroid_gland",
        "costal_cartilages", "atrial_appendage_left",
        *_both("iliac_artery", "iliac_vena", "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon"),
        *_both("iliopsoas", "subclavian_artery", "common_carotid_artery", "brachiocephalic_vein", "kidney_cyst"),
    ),
)  # fmt: skip
DENSE = Tissue(
    "dense",
    "#dfe6ee",
    (
        "bone", "skull", "sternum", "sacrum", *_VERTEBRAE, *_RIBS,
        *_both("hip", "femur", "humerus", "scapula", "clavicula"),
    ),
)  # fmt: skip

TISSUES = (GAS, FAT, SOFT, DENSE)
"""In the order of their ids, which follow the body's."""
