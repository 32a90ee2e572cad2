"""Real slices that are given: a volume is drawn around them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.pairs import in_hu
from ctsynth.data.slices import to_slices
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.errors import DataError, UsageError
from ctsynth.files import sha256


class KnownSlices(NamedTuple):
    """Slices of a volume that are not drawn.

    Args:
        hu: (Z, size, size) int16, HU within the model's window; what is not known may be anything.
        where: (Z,) bool.
    """

    hu: NDArray[np.int16]
    where: NDArray[np.bool_]


@dataclass(frozen=True)
class GivenSlices:
    """Some slices of a CT.

    Args:
        file: The CT, on the mask's grid.
        ranges: Which slices, counted from the feet: ``0:10,40:50``, ends excluded, or single ones as ``7``.

    Raises:
        UsageError: The ranges are of another form.
    """

    file: Path
    ranges: str

    def __post_init__(self) -> None:
        if not self.places:
            raise UsageError(f"`given_slices` {self.ranges}: no slices", hint=_HINT)

    @property
    def places(self) -> list[int]:
        """The slices, in the order in which they are named."""
        found: list[int] = []
        for part in self.ranges.split(","):
            named = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", part.strip(), re.ASCII)
            if not named:
                raise UsageError(f"`given_slices` {self.ranges}: {part!r} is no range of slices", hint=_HINT)
            start = int(named[1])
            found += range(start, int(named[2]) if named[2] else start + 1)
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the CT.

        Raises:
            DataError: It cannot be read.
        """
        try:
            return sha256(self.file)
        except OSError as error:
            raise DataError(f"{self.file}: cannot read it: {error.strerror}") from error

    def read(self, geometry: Geometry, size: int, window: Window) -> KnownSlices:
        """The slices as the model sees them.

        Args:
            geometry: Grid of the mask.
            size: Side of the model's slices, pixels.
            window: The model's.

        Raises:
            DataError: The CT cannot be read, is not in HU, lies on another grid, or has fewer slices.
        """
        ct = Volume.load(self.file)
        if not ct.geometry.same_as(geometry):
            raise DataError(f"{self.file}: its grid is {ct.geometry}, that of the mask is {geometry}")
        count = geometry.shape[2]
        if beyond := [place for place in self.places if place >= count]:
            raise DataError(f"`given_slices` {self.ranges}: {self.file} has no slice {beyond[0]}, it has {count}")
        hu = window.clip(in_hu(self.file, ct.voxels))
        where = np.zeros(count, bool)
        where[self.places] = True
        return KnownSlices(to_slices(hu, size, "ct", air=window.air), where)


_HINT = "name ranges, ends excluded, counted from the feet: `given_slices` 0:10,40:50"
