"""NIfTI volumes: read into RAS+, written back onto the grid and axes of the file that they came from."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from ctsynth.data.formats import is_packed
from ctsynth.errors import DataError
from ctsynth.files import atomic

Affine = NDArray[np.float64]

RAS_PLUS = np.array([[0, 1], [1, 1], [2, 1]])
"""Axes that rise toward the patient's right, anterior and superior: nibabel's convention.

ITK and DICOM count toward left and posterior (LPS+), which is where left and right get lost.
"""

_MILLIMETERS = {1: 1000.0, 2: 1.0, 3: 1e-3}  # NIfTI-1 spatial units: meter, millimeter, micron
SAME_GRID = 1e-3
"""Largest difference between the affines of one grid: mm, and mm a voxel."""

_DESCRIPTION_BYTES = 79
_HEADER_BYTES = 1 << 24  # with extensions
_PIECE = 1 << 20
_LEVEL = 2  # of 0 to 3: a quarter of the time of gzip's 1, at its size


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

    shape: tuple[int, int, int]
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

    shape: tuple[int, int, int]
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
    def from_json(cls, content: dict[str, Any]) -> Geometry:
        """Builds a geometry from what ``as_json`` gave."""

        def arrays(entry: dict[str, Any]) -> dict[str, Any]:
            return entry | {"shape": tuple(entry["shape"]), "affine": np.array(entry["affine"], np.float64)}

        source = SourceGrid(**arrays(content["source"])) if "source" in content else None
        return cls(**arrays(content) | {"source": source})


@dataclass(frozen=True, eq=False, slots=True)
class Volume:
    """A CT or a label volume.

    Args:
        voxels: (X, Y, Z) in RAS+ order: HU or labels, in the file's dtype.
        geometry: Where they lie.
    """

    voxels: NDArray[Any]
    geometry: Geometry

    @classmethod
    def load(cls, path: Path) -> Volume:
        """Reads a .nii or .nii.gz and turns its axes to RAS+.

        The dtype is that of the file, native byte order; float32 where the file is float64 or scales its values.

        Raises:
            DataError: There is no such file, it is no whole NIfTI, or it holds no 3-D volume with known axes.
        """
        header, content = _read(path)
        source = _source_grid(path, header)
        dtype, start = header.get_data_dtype(), int(header["vox_offset"])
        missing = start + int(np.prod(source.shape)) * dtype.itemsize - len(content)
        if missing > 0:
            raise DataError(f"{path}: its last {missing} bytes are missing", hint="copy or download it again")
        stored = np.ndarray(source.shape, dtype, memoryview(content), start, order="F")
        voxels = _plain(path, stored, header)
        return cls(apply_orientation(voxels, io_orientation(source.affine)), Geometry.of(source))

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


def label_names(path: Path) -> dict[int, str] | None:
    """The names of the labels, where TotalSegmentator left them in the header; None where nobody did.

    They lie in a header extension, XML of the Connectome Workbench's form:
    ``<CaretExtension>...<LabelTable><Label Key="5" ...><![CDATA[liver]]></Label>``.

    Raises:
        DataError: The file is no NIfTI.
    """
    for extension in _read(path)[0].extensions:
        content = extension.get_content()
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        text = text.strip("\0 \n")
        if "<LabelTable" not in text or "<!DOCTYPE" in text:  # which is where entities that blow up are declared
            continue
        try:
            labels = ElementTree.fromstring(text).iter("Label")
            return {int(label.attrib["Key"]): (label.text or "").strip() for label in labels}
        except (ElementTree.ParseError, KeyError, ValueError):
            continue
    return None


def _read(path: Path) -> tuple[nib.Nifti1Header, bytearray]:
    """The header of a NIfTI-1 or NIfTI-2 file, and the whole file, unpacked."""
    content = _unpacked(path)
    kind = nib.Nifti2Header if bytes(content[:4]) in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Header
    try:
        header = kind.from_fileobj(io.BytesIO(memoryview(content)[:_HEADER_BYTES]))
    except (nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a NIfTI file: {error}") from None
    if not (header["magic"].item().startswith(b"n+") and header["vox_offset"] >= header.sizeof_hdr):
        raise DataError(f"{path}: not a NIfTI file with header and voxels in one")
    return header, content


def _unpacked(path: Path) -> bytearray:
    again = "copy or download it again"
    try:
        with path.open("rb") as file:
            magic = file.peek(2)[:2]
            if is_packed(path) and magic and magic != b"\x1f\x8b":
                raise DataError(f"{path}: not a gzip file", hint="is it a plain .nii under another name?")
            content = _inflate(file) if is_packed(path) else bytearray(file.read())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (EOFError, igzip.BadGzipFile, IsalError) as error:  # type: ignore[misc]  # its stub errs
        raise DataError(f"{path}: the gzip file is cut off or damaged: {error}", hint=again) from None
    except OSError as error:
        raise DataError(f"{path}: cannot read it: {error.strerror}") from error
    if not content:
        raise DataError(f"{path}: the file is empty", hint=again)
    return content


def _inflate(file: BinaryIO) -> bytearray:
    """Unpacks a gzip file of any number of members, checked, with little more memory than its content takes."""
    content = bytearray()
    with igzip.IGzipFile(fileobj=file) as packed:
        for piece in iter(lambda: packed.read(_PIECE), b""):
            content += piece
    return content


def _source_grid(path: Path, header: nib.Nifti1Header) -> SourceGrid:
    shape = tuple(int(length) for length in header.get_data_shape())
    if len(shape) < 3 or any(length != 1 for length in shape[3:]) or min(shape) < 1:
        raise DataError(f"{path}: its shape is {shape}, not that of one 3-D volume")
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    if not (qform_code or sform_code):
        raise DataError(
            f"{path}: qform_code and sform_code are 0: left and right are unknown",
            hint="write it again with a program that knows how the patient lay",
        )
    affine = np.asarray(header.get_best_affine(), np.float64)
    columns = np.linalg.norm(affine[:3, :3], axis=0)
    volume = abs(np.linalg.det(affine[:3, :3]))
    if not np.isfinite(affine).all() or not volume > 1e-6 * columns.prod():
        raise DataError(f"{path}: its affine does not give three axes: {affine[:3].round(3).tolist()}")
    return SourceGrid(shape[:3], affine, int(header["xyzt_units"]), qform_code, sform_code)  # type: ignore[arg-type]


def _plain(path: Path, voxels: NDArray[Any], header: nib.Nifti1Header) -> NDArray[Any]:
    if voxels.dtype.kind not in "iuf":
        raise DataError(f"{path}: its voxels are {voxels.dtype}, not one real number each")
    try:
        slope, inter = header.get_slope_inter()
    except nib.spatialimages.HeaderDataError as error:
        raise DataError(f"{path}: its scale cannot be used: {error}") from None
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
