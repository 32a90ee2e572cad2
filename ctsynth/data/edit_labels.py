"""Classes of a label volume scaled and shifted, by maps that take their neighborhood along."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ctsynth.data.diffeomorphism import SMALLEST_JACOBIAN, SPACING_MM, Deformation, Field, lattice_nodes
from ctsynth.errors import DataError, UsageError, shortened
from ctsynth.labels import key

REACH_MM = 20.0
"""Standard deviation of the Gaussian by which an edit fades with the distance from its class."""

_MOMENTS = 9  # of the way from before to after

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_SHIFTS = re.compile(rf"(?P<name>.+)=(?P<shift>{_NUMBER},{_NUMBER},{_NUMBER})")
_SCALES = re.compile(rf"(?P<name>.+)=(?P<scale>{_NUMBER})")


@dataclass(frozen=True, slots=True)
class Edit:
    """A class scaled about its center, or shifted.

    Args:
        name: The class's name, or its number.
        scale: Factor of its size along each axis; 1 where it is shifted.
        shift: Toward the patient's right, anterior and superior, mm; 0 where it is scaled.
    """

    name: str
    scale: float = 1.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def scaling(cls, text: str) -> Edit:
        """Of ``NAME=FACTOR``.

        Raises:
            UsageError: It has another form.
        """
        found = _SCALES.fullmatch(text)
        if not found or not 0 < float(found["scale"]) < math.inf:
            raise UsageError(f"`scale` {text}: wanted CLASS=FACTOR, above 0", hint="say `scale` liver=0.8")
        return cls(found["name"], scale=float(found["scale"]))

    @classmethod
    def shifting(cls, text: str) -> Edit:
        """Of ``NAME=RIGHT,ANTERIOR,SUPERIOR``.

        Raises:
            UsageError: It has another form.
        """
        found = _SHIFTS.fullmatch(text)
        if not found:
            raise UsageError(
                f"`shift` {text}: wanted CLASS=RIGHT,ANTERIOR,SUPERIOR in mm", hint="say `shift` liver=0,0,-10"
            )
        right, anterior, superior = map(float, found["shift"].split(","))
        return cls(found["name"], shift=(right, anterior, superior))

    def __str__(self) -> str:
        """As the options have it."""
        return (
            f"{self.name}={self.scale:g}"
            if self.scale != 1
            else f"{self.name}={','.join(f'{x:g}' for x in self.shift)}"
        )

    def deformation(
        self, file: str, labels: NDArray[Any], spacing: tuple[float, float, float], names: Mapping[int, str]
    ) -> Deformation:
        """The map that the edited volume reads its labels through: exact within the class, and fading around it.

        Within the class phi(x) is center + (x - center) / scale, or x - shift.

        Args:
            file: Where the labels are from, for messages.
            labels: (X, Y, Z) RAS+.
            spacing: Of the voxels, mm.
            names: Of the classes, as far as they are known.

        Raises:
            DataError: The volume does not have the class, or so large an edit would crush something.
        """
        mask = labels == self._number(file, labels, names)
        center = (np.argwhere(mask).mean(0) * spacing)[:, None, None, None]
        shift = np.array(self.shift)[:, None, None, None]
        nodes = lattice_nodes(labels.shape, spacing)
        away = self._away(distance_transform_edt(~mask, spacing), spacing, nodes - center, center)
        velocity = -math.log(self.scale) * (nodes - center) - shift
        deformation = Deformation.of_velocity(velocity * np.exp(-0.5 * (away / REACH_MM) ** 2))
        if (smallest := deformation.smallest_jacobian()) < SMALLEST_JACOBIAN:
            raise DataError(
                f"{file}: the edit {self} leaves a region {smallest:.2f} of its volume,"
                f" wanted {SMALLEST_JACOBIAN} or more",
                hint="use a factor nearer to 1, or a smaller shift",
            )
        return deformation

    def _away(
        self, distance: NDArray[np.float64], spacing: tuple[float, float, float], offset: Field, center: Field
    ) -> NDArray[np.float64]:
        """Distance of each node, mm, to where the class is on its way: so all of that moves as one.

        Args:
            distance: Of each voxel to the class before, mm.
            spacing: Of the voxels, mm.
            offset: Of the nodes from the center, mm.
            center: Of the class, mm.
        """
        length, shift = (np.array(one)[:, None, None, None] for one in (spacing, self.shift))
        last = np.array(distance.shape)[:, None, None, None] - 1
        away = np.full(offset.shape[1:], np.inf)
        for time in np.linspace(0, 1, _MOMENTS):
            factor = self.scale**time
            before = center + (offset - time * shift) / factor
            x, y, z = np.clip(np.rint(before / length).astype(np.intp), 0, last)
            away = np.minimum(away, factor * distance[x, y, z])
        return np.maximum(away - max(SPACING_MM, *spacing), 0)  # what lies between nodes and voxels moves along

    def _number(self, file: str, labels: NDArray[Any], names: Mapping[int, str]) -> int:
        there = {int(label): names.get(int(label), str(label)) for label in np.unique(labels) if label}
        found = [
            number for number, name in there.items() if key(name) == key(self.name) or str(number) == self.name
        ]
        if not found:
            raise DataError(f"{file}: no class {self.name!r}", hint=f"there are: {shortened(there.values(), 30)}")
        return found[0]


def edits_of(scales: Sequence[str], shifts: Sequence[str]) -> tuple[Edit, ...]:
    """The edits of two options, scalings first."""
    return (*map(Edit.scaling, scales), *map(Edit.shifting, shifts))
