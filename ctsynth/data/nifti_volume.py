"""NIfTI volumes: from a file's voxels to RAS+, and back with its own header's codes and units."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from ctsynth.data import nifti
from ctsynth.data.formats import is_packed
from ctsynth.data.volume import SourceGrid, Volume
from ctsynth.errors import DataError

_DESCRIPTION_BYTES = 79
_LEVEL = 2  # of 0 to 3: a quarter of the time of gzip's 1, at its size

description = nifti.description


def load(path: Path, ct: Path | None = None) -> Volume:
    """Reads a .nii or .nii.gz."""
    file = nifti.read(path)
    return Volume.of_file(path, _plain(path, file.voxels, file.header), _source_grid(path, file), file.label_names)


def save(volume: Volume, path: Path, description: str, window: tuple[float, float] | None) -> None:
    """Writes a .nii or .nii.gz; the gzip header holds no time."""
    voxels, source = volume.on_source_grid()
    image = nib.Nifti1Image(voxels, None, _header(source, voxels.dtype))
    image.header["descrip"] = description.encode()[:_DESCRIPTION_BYTES]
    if window is not None:
        image.header["cal_min"], image.header["cal_max"] = window
    if volume.names:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("caret", nifti.label_table(volume.names)))
    with path.open("wb") as file:
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
            hint="write it again with a program that stores the patient's orientation",
        )
    try:
        with np.errstate(invalid="ignore"):  # a signaling NaN, which is refused below
            affine = np.asarray(header.get_best_affine(), np.float64)
    except ValueError as error:  # a quaternion that is none
        raise DataError(f"{path}: its qform cannot be used: {error}") from None
    units = int(header["xyzt_units"]) & 0xFF
    return SourceGrid(file.voxels.shape, affine, units, qform_code, sform_code)


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
