"""Volumes: read into RAS+, written back onto the grid and axes of the file that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NotRequired, Protocol, TypedDict, cast

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from ctsynth.data.formats import module_of
from ctsynth.data.limits import MOST_A_SIDE, MOST_VOXELS, Shape
from ctsynth.errors import DataError
from ctsynth.files import atomic
from ctsynth.schema import Range, parse

Affine = NDArray[np.float64]

RAS_PLUS = np.array([[0, 1], [1, 1], [2, 1]])
"""Axes that rise toward the patient's right, anterior and superior: nibabel's convention.

ITK and DICOM count toward left and posterior (LPS+), which is where left and right get lost.
"""

Length = Annotated[int, Range(1, MOST_A_SIDE)]
_Row = tuple[float, float, float, float]
_MM = 2  # NIfTI-1's code
_MILLIMETERS = {1: 1000.0, 2: 1.0, 3: 1e-3}  # NIfTI-1 spatial units: meter, millimeter, micron
SAME_GRID = 1e-3
"""Largest difference between the affines of one grid: mm, and mm a voxel."""

PLAUSIBLE_AIR = -200
"""HU; every CT has air or fat below this, no windowed or normalized picture has."""

_FARTHEST = 1e9  # mm, of a voxel from the origin
_SPACINGS = (0.01, 1000.0)  # mm; what looks finer or coarser is in other units than its header says


class GridJSON(TypedDict):
    """A grid as JSON has it."""

    shape: tuple[Length, Length, Length]
    affine: tuple[_Row, _Row, _Row, _Row]


class SourceGridJSON(GridJSON):
    """A ``SourceGrid`` as JSON has it."""

    xyzt_units: Annotated[int, Range(0, 255)]
    qform_code: Annotated[int, Range(0, 5)]
    sform_code: Annotated[int, Range(0, 5)]


class GeometryJSON(GridJSON):
    """A ``Geometry`` as JSON has it."""

    source: NotRequired[SourceGridJSON]


@dataclass(frozen=True, eq=False, slots=True)
class SourceGrid:
    """The grid of a file as it lies on disk; of other formats as a NIfTI file in mm would have it.

    Args:
        shape: Voxels along each of the file's own axes.
        affine: (4, 4); voxel index to position in the file's own units.
        xyzt_units: The header's code of the units.
        qform_code: The header's code of what its quaternion means; 0 is none.
        sform_code: The header's code of what its affine means; 0 is none.
    """

    shape: Shape
    affine: Affine
    xyzt_units: int = 2
    qform_code: int = 1
    sform_code: int = 1

    @property
    def affine_mm(self) -> Affine:
        """(4, 4); voxel index to position in mm, RAS+."""
        affine = self.affine.copy()
        affine[:3] *= _MILLIMETERS.get(self.xyzt_units & 7, 1.0)
        return affine


@dataclass(frozen=True, eq=False, slots=True)
class Geometry:
    """Where the voxels of an RAS+ volume lie, and how its file had them.

    Args:
        shape: (X, Y, Z), voxels along the axes toward the patient's right, anterior and superior.
        affine: (4, 4) float64; index of a voxel to the position of its center, mm, RAS+.
        source: The grid of the file; None where the volume did not come from a file, or came as RAS+.
    """

    shape: Shape
    affine: Affine
    source: SourceGrid | None = None

    @classmethod
    def of(cls, source: SourceGrid) -> Geometry:
        """The RAS+ geometry of a file's grid: its axes permuted and flipped, nothing resampled."""
        orientation = io_orientation(source.affine)
        shape = [0, 0, 0]
        for axis, (target, _) in enumerate(orientation):
            shape[int(target)] = source.shape[axis]
        affine = source.affine_mm @ inv_ornt_aff(orientation, source.shape)
        return cls((shape[0], shape[1], shape[2]), affine, source)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighboring voxels along X, Y and Z, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def __str__(self) -> str:
        """Shape, spacing and origin: "64 x 64 x 24 voxels of 5.5 x 5.5 x 5 mm from (-173, -173, 0)"."""
        spacing = " x ".join(f"{length:.6g}" for length in self.spacing)
        origin = ", ".join(f"{place:.6g}" for place in self.affine[:3, 3])
        return f"{' x '.join(map(str, self.shape))} voxels of {spacing} mm from ({origin})"

    def same_as(self, other: Geometry) -> bool:
        """Whether both are one grid: equal shapes, and affines within ``SAME_GRID``; the files may differ."""
        return self.shape == other.shape and bool(np.abs(self.affine - other.affine).max() <= SAME_GRID)

    def as_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, bit for bit."""
        content: dict[str, Any] = {"shape": list(self.shape), "affine": self.affine.tolist()}
        if self.source:
            source = asdict(self.source)
            content["source"] = source | {"shape": list(self.source.shape), "affine": self.source.affine.tolist()}
        return content

    @classmethod
    def from_json(cls, content: GeometryJSON, where: str = "geometry") -> Geometry:
        """Builds a geometry from what ``as_json`` gave; ``where`` names it in messages.

        Raises:
            DataError: It is of another form, or an affine does not give three axes.
        """
        known = parse(GeometryJSON, content, where)
        source = None
        if grid := known.get("source"):
            codes = (grid["xyzt_units"], grid["qform_code"], grid["sform_code"])
            source = SourceGrid(_shape(grid), np.array(grid["affine"], np.float64), *codes)
        geometry = cls(_shape(known), np.array(known["affine"], np.float64), source)
        problem = _not_axes(geometry.affine, _MM) or (source and _not_axes(source.affine, source.xyzt_units))
        if problem:
            raise DataError(f"{where}: its affine {problem}")
        return geometry


def _shape(grid: GridJSON) -> Shape:
    x, y, z = grid["shape"]
    return x, y, z


@dataclass(frozen=True, eq=False, slots=True)
class Volume:
    """A CT or a label volume.

    Args:
        voxels: (X, Y, Z) in RAS+ order: HU or labels, in the file's dtype.
        geometry: Where they lie.
        names: Names of the labels, if the file has them: in a header extension, as TotalSegmentator writes them.
    """

    voxels: NDArray[Any]
    geometry: Geometry
    names: Mapping[int, str] | None = None

    @classmethod
    def load(cls, path: Path, ct: Path | None = None) -> Volume:
        """Reads a volume in any of the formats and turns its axes to RAS+.

        The dtype is that of the file, native byte order; float32 where the file is float64 or scales its values.

        Args:
            path: NIfTI; NRRD, MetaImage, or DICOM: the folder of a CT series, or a file of labels.
            ct: The CT that labels are of; DICOM's take its grid.

        Raises:
            DataError: There is no such file, it is damaged, or it holds no 3-D volume with known axes; or what
                reads it is not installed.
        """
        return codec(path).load(path, ct)

    @classmethod
    def of_file(
        cls, path: Path, voxels: NDArray[Any], source: SourceGrid, names: Mapping[int, str] | None = None
    ) -> Volume:
        """A volume of voxels in a file's own axes.

        Raises:
            DataError: The affine is not that of a CT, or slices far from square would take too much memory.
        """
        if problem := _not_axes(source.affine, source.xyzt_units):
            raise DataError(f"{path}: its affine {problem}: {source.affine[:3].round(3).tolist()}")
        geometry = Geometry.of(source)
        x, y, z = geometry.shape
        if max(x, y) ** 2 * z > MOST_VOXELS:
            raise DataError(
                f"{path}: its {z:,} axial slices of {x:,} x {y:,} are, padded to squares, more than"
                f" {MOST_VOXELS:,} voxels"
            )
        return cls(apply_orientation(voxels, io_orientation(source.affine)), geometry, names)

    def save(self, path: Path, description: str = "", window: tuple[float, float] | None = None) -> None:
        """Writes it with the axes, grid, affine and units of the source, whole or not at all.

        Equal volumes give equal bytes.

        Args:
            path: Where to; its suffix says in which format.
            description: For the header; of a NIfTI 79 bytes are kept.
            window: Lowest and highest HU to show, for a header that has a place for them.

        Raises:
            RunError: The file cannot be written.
            DataError: The format cannot hold such a grid, or what writes it is not installed.
        """
        with atomic(path) as partial:
            try:
                codec(path).save(self, partial, description, window)
            except DataError as error:
                raise DataError(error.message.replace(str(partial), str(path)), hint=error.hint) from error

    def on_source_grid(self) -> tuple[NDArray[Any], SourceGrid]:
        """The voxels in the axes of the source, and its grid."""
        source = self.geometry.source or SourceGrid(self.geometry.shape, self.geometry.affine)
        turn = ornt_transform(RAS_PLUS, io_orientation(source.affine))
        return apply_orientation(self.voxels, turn), source


def _not_axes(affine: Affine, units: int) -> str:
    """Why an affine in these units cannot be that of a CT; empty if it can."""
    if not np.isfinite(affine).all() or np.abs(affine).max() > _FARTHEST:
        return "is not of finite numbers of mm"
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * lengths.prod() > 0:
        return "does not give three axes"
    lengths *= _MILLIMETERS.get(units & 7, 1.0)
    if lengths.min() < _SPACINGS[0] or lengths.max() > _SPACINGS[1]:
        low, high = _SPACINGS
        return f"has voxels of {' x '.join(f'{n:.4g}' for n in lengths)} mm, wanted {low:g} to {high:g} mm a side"
    return ""


class Codec(Protocol):
    """What the module of a format offers."""

    def load(self, path: Path, ct: Path | None) -> Volume:
        """Reads a volume in RAS+; ``ct`` is the CT on whose grid labels without a grid of their own lie.

        Raises:
            DataError: It cannot be read, or is no single 3-D volume with known axes.
        """

    def save(self, volume: Volume, path: Path, description: str, window: tuple[float, float] | None) -> None:
        """Writes a volume on its source's grid; what the window, HU, is goes into the header where there is room.

        Raises:
            DataError: The format cannot hold this grid.
        """

    def description(self, path: Path) -> str:
        """What the file's header says of it, without its voxels; empty if it cannot be read."""


def codec(path: Path) -> Codec:
    """Who reads and writes a path."""
    return cast(Codec, import_module(f"ctsynth.data.{module_of(path)}"))
