"""A subject of a phantom data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAME = "ctsynth phantom"
"""Source that the description of every file begins with."""

VERSION = 2
"""Version, raised when the same seed gives other voxels."""

FIRST_TEST_ID = 401
"""Training ids begin at 1, test ids here; AMOS22's CT ids end at 499."""


@dataclass(frozen=True, slots=True)
class PhantomCase:
    """Which subject to make, on which grid, and where its files go.

    Args:
        out: The data set's folder.
        number: The subject's id, by which it is drawn; tells training from test too.
        seed: Seed of the data set.
        size: Side of the slices, voxels.
        slices: Number of slices.
    """

    out: Path
    number: int
    seed: int
    size: int
    slices: int

    @property
    def name(self) -> str:
        """Name that its files begin with."""
        return f"amos_{self.number:04d}"

    @property
    def image(self) -> Path:
        """Its CT."""
        return self.out / f"images{self._split}" / f"{self.name}.nii.gz"

    @property
    def label(self) -> Path:
        """Its organs."""
        return self.out / f"labels{self._split}" / f"{self.name}.nii.gz"

    @property
    def description(self) -> str:
        """What its files say of themselves; tells whether they are up to date."""
        grid = f"{self.size}x{self.size}x{self.slices}"
        return f"{NAME} {VERSION}, not a patient; {grid}, seed {self.seed}, {self.number}"

    @property
    def _split(self) -> str:
        return "Va" if self.number >= FIRST_TEST_ID else "Tr"
