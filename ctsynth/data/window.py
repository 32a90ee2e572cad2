"""The CT window: which Hounsfield units a picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctsynth.errors import UsageError

AIR = -1024
"""HU of what lies beside a volume that is not square."""

_HU = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True)
class Window:
    """A range of Hounsfield units, by its middle and its width.

    Args:
        level: The middle, HU; the paper's 40 (Sec. 3).
        width: The width, HU; the paper's 400 (Sec. 3).
    """

    level: float = 40
    width: float = 400

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.low >= _HU.min and self.high <= _HU.max):
            raise UsageError(
                f"window level {self.level:g} width {self.width:g} goes from {self.low:g} to {self.high:g} HU",
                hint="wanted: a width above 0, and HU that fit 16 bits; the paper's is level 40 width 400",
            )

    @property
    def low(self) -> float:
        """Its lower end, HU: -160 by default. What is below is shown as this."""
        return self.level - self.width / 2

    @property
    def high(self) -> float:
        """Its upper end, HU: 240 by default. What is above is shown as this."""
        return self.level + self.width / 2

    @property
    def air(self) -> float:
        """HU that air has within it: its lower end, unless that is below air."""
        return max(self.low, AIR)

    def clip(self, hu: NDArray[np.generic]) -> NDArray[np.generic]:
        """HU of any shape, held within the window; the dtype is kept if it holds every HU, else a wider one."""
        hu = hu.astype(np.promote_types(hu.dtype, np.int16), copy=False)
        clipped: NDArray[np.generic] = np.clip(hu, hu.dtype.type(self.low), hu.dtype.type(self.high))
        return clipped

    def normalize(self, hu: ArrayLike) -> NDArray[np.float32]:
        """HU of any shape as float32 in [0, 1], the window's ends at 0 and 1, clipped."""
        unit = (np.asarray(hu, np.float32) - np.float32(self.low)) / np.float32(self.width)
        return np.asarray(np.clip(unit, 0, 1), np.float32)

    def denormalize(self, unit: ArrayLike) -> NDArray[np.float32]:
        """HU as float32 from values in [0, 1]: what ``normalize`` came from, inside the window."""
        return np.asarray(unit, np.float32) * np.float32(self.width) + np.float32(self.low)
