"""A class put into label volumes from a mask of its own, such as a lesion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctsynth.data.plausible import Labels
from ctsynth.data.relabel import check_labels
from ctsynth.data.volume import Geometry, Volume
from ctsynth.errors import DataError, UsageError
from ctsynth.files import sha256
from ctsynth.labels import key

_HIGHEST = 254


@dataclass(frozen=True, slots=True)
class Insertion:
    """What is put in.

    Args:
        name: The class's name, or its number.
        mask: Label volume; where it is not 0 the class is put.
        digest: SHA-256 of that file.
    """

    name: str
    mask: Path
    digest: str

    @classmethod
    def parse(cls, text: str) -> Insertion:
        """Of ``CLASS=FILE``.

        Raises:
            UsageError: It has another form.
            DataError: There is no such file.
        """
        name, _, path = text.partition("=")
        if not name or not path:
            raise UsageError(f"`insert` {text}: wanted CLASS=FILE", hint="say `insert` tumor=tumor.nii.gz")
        if not Path(path).is_file():
            raise DataError(f"{path}: no such file")
        return cls(name, Path(path), sha256(Path(path)))

    def __str__(self) -> str:
        """For a record."""
        return f"{self.name}=sha256:{self.digest}"

    def into(
        self, file: str, labels: Labels, geometry: Geometry, names: dict[int, str]
    ) -> tuple[Labels, dict[int, str]]:
        """The labels with the class in them, and the names with its name.

        A name that the volume does not have gets the number above its highest.

        Args:
            file: Where the labels are from, for messages.
            labels: (X, Y, Z) RAS+.
            geometry: Their grid.
            names: Of the classes, as far as they are known.

        Raises:
            DataError: The mask is empty, on another grid, or reaches into the background; or the class has a name
                that no number is known for.
        """
        mask = Volume.load(self.mask)
        check_labels(str(self.mask), mask.voxels)
        there = mask.voxels != 0
        if not mask.geometry.same_as(geometry):
            raise DataError(f"{self.mask}: on another grid than {file}: {mask.geometry}; {geometry}")
        if not there.any():
            raise DataError(f"{self.mask}: nothing but background")
        if outside := int(np.count_nonzero(there & (labels == 0))):
            raise DataError(
                f"{self.mask}: {outside} of its {int(there.sum())} voxels are background in {file}",
                hint="a lesion lies within the body: cut the mask, or use a label volume with the body",
            )
        number = self._number(file, labels, names)
        made = np.where(there, labels.dtype.type(number), labels)
        return made, names if self.name.isdecimal() else names | {number: self.name}

    def _number(self, file: str, labels: Labels, names: dict[int, str]) -> int:
        if self.name.isdecimal():
            number = int(self.name)
        elif not names:
            raise DataError(
                f"{file}: its classes have no names, so {self.name!r} has no number",
                hint=f"say `insert` NUMBER={self.mask}",
            )
        else:
            known = (number for number, name in names.items() if key(name) == key(self.name))
            number = next(known, max(int(labels.max()), *names) + 1)
        if not 1 <= number <= _HIGHEST:
            raise DataError(f"{file}: {self.name!r} would be label {number}, wanted 1 to {_HIGHEST}")
        return number
