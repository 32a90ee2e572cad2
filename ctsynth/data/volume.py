"""NIfTI volumes: read into RAS+, written back onto the grid and axes of the file that they came from."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from ctsynth.data import nifti
from ctsynth.data.formats import is_packed
from ctsynth.errors import DataError
from ctsynth.files import atomic
from ctsynth.schema import Range, parse

Affine = NDArray[np.float64]

RAS_PLUS = np.array([[0, 1], [1, 1], [2, 1]])
"""Axes that rise toward the patient's right, anterior and superior: nibabel's convention.

ITK and DICOM count toward left and posterior (LPS+), which is where left and right get lost.
"""

Length = Annotated[int, Range(1, nifti.MOST_A_SIDE)]
_Row = tuple[float, float, float, float]
_MM = 2  # NIfTI-1's code
_MILLIMETERS = {1: 1000.0, 2: 1.0, 3: 1e-3}  # NIfTI-1 spatial units: meter, millimeter, micron
SAME_GRID = 1e-3
"""Largest difference between the affines of one grid: mm, and mm a voxel."""

PLAUSIBLE_AIR = -200
"""HU; every CT has air or fat below this, no windowed or normalized picture has."""

_DESCRIPTION_BYTES = 79
_FARTHEST = 1e9  # mm, of a voxel from the origin
_SPACINGS = (0.01, 1000.0)  # mm; what looks finer or coarser is in other units than its header says
_LEVEL = 2  # of 0 to 3: a quarter of the time of gzip's 1, at its size


Shape = tuple[int, int, int]


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
    """The grid of a NIfTI file as it lies on disk.

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
        affine = source.affine @ inv_ornt_aff(orientation, source.shape)
        affine[:3] *= _MILLIMETERS.get(source.xyzt_units & 7, 1.0)
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
        names: Of the labels, where the file has them: in a header extension, as TotalSegmentator leaves them.
    """

    voxels: NDArray[Any]
    geometry: Geometry
    names: Mapping[int, str] | None = None

    @classmethod
    def load(cls, path: Path) -> Volume:
        """Reads a .nii or .nii.gz and turns its axes to RAS+.

        The dtype is that of the file, native byte order; float32 where the file is float64 or scales its values.

        Raises:
            DataError: There is no such file, it is no whole NIfTI, or it holds no 3-D volume with known axes.
        """
        file = nifti.read(path)
        source = _source_grid(path, file)
        geometry = Geometry.of(source)
        x, y, z = geometry.shape
        if max(x, y) ** 2 * z > nifti.MOST_VOXELS:
            raise DataError(
                f"{path}: its {z:,} axial slices of {x:,} x {y:,} are, padded to squares, more than"
                f" {nifti.MOST_VOXELS:,} voxels"
            )
        voxels = _plain(path, file.voxels, file.header)
        return cls(apply_orientation(voxels, io_orientation(source.affine)), geometry, file.label_names)

    def save(self, path: Path, description: str = "") -> None:
        """Writes a .nii or .nii.gz with the axes, grid, affine and units of the source, whole or not at all.

        Equal volumes give equal bytes: the gzip header holds no time.

        Args:
            path: Where to.
            description: For the header's ``descrip``; 79 bytes are kept.

        Raises:
            RunError: The file cannot be written.
        """
        source = self.geometry.source or SourceGrid(self.geometry.shape, self.geometry.affine)
        turn = ornt_transform(RAS_PLUS, io_orientation(source.affine))
        image = nib.Nifti1Image(apply_orientation(self.voxels, turn), None, _header(source, self.voxels.dtype))
        image.header["descrip"] = description.encode()[:_DESCRIPTION_BYTES]
        with atomic(path) as partial, partial.open("wb") as file:
            if is_packed(path):
                with igzip.IGzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
                    _write(image, packed)
            else:
                _write(image, file)


def _source_grid(path: Path, file: nifti.File) -> SourceGrid:
    header = file.header
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    if not (qform_code or sform_code):
        raise DataError(
            f"{path}: qform_code and sform_code are 0: left and right are unknown",
            hint="write it again with a program that knows how the patient lay",
        )
    try:
        with np.errstate(invalid="ignore"):  # a signaling NaN, which is refused below
            affine = np.asarray(header.get_best_affine(), np.float64)
    except ValueError as error:  # a quaternion that is none
        raise DataError(f"{path}: its qform cannot be used: {error}") from None
    if problem := _not_axes(affine, int(header["xyzt_units"])):
        raise DataError(f"{path}: its affine {problem}: {affine[:3].round(3).tolist()}")
    units = int(header["xyzt_units"]) & 0xFF
    return SourceGrid(file.voxels.shape, affine, units, qform_code, sform_code)


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


def _plain(path: Path, voxels: NDArray[Any], header: nib.Nifti1Header) -> NDArray[Any]:
    try:
        slope, inter = header.get_slope_inter()
    except nib.spatialimages.HeaderDataError as error:
        raise DataError(f"{path}: its scale cannot be used: {error}") from None
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused as such
        if (slope or 1, inter or 0) != (1, 0):
            scaled = voxels.astype(np.float32)
            scaled *= np.float32(slope or 1)
            scaled += np.float32(inter or 0)
            return scaled
        dtype = np.dtype(np.float32) if voxels.dtype.kind == "f" else voxels.dtype.newbyteorder("=")
        return voxels.astype(dtype, copy=False)


def _header(source: SourceGrid, dtype: np.dtype[Any]) -> nib.Nifti1Header:
    """A header of the source's grid; an affine with shear, which no quaternion gives, is kept as sform alone."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(source.shape)
    header.set_zooms(np.linalg.norm(source.affine[:3, :3], axis=0))
    header.set_qform(source.affine, code=source.qform_code or 1, strip_shears=True)
    is_rigid = np.allclose(header.get_qform(), source.affine, rtol=1e-5, atol=1e-3)
    header["qform_code"] = source.qform_code if is_rigid else 0
    header.set_sform(source.affine, code=source.sform_code if is_rigid else source.sform_code or 1)
    header["xyzt_units"] = source.xyzt_units
    return header


def _write(image: nib.Nifti1Image, file: io.IOBase) -> None:
    image.file_map["image"].fileobj = file
    image.to_file_map()
