"""NIfTI files with headers, extensions and voxels that no program should write, plain and gzipped."""

from __future__ import annotations

import functools
import gzip
import struct
import zlib
from random import Random

import nibabel as nib
import numpy as np

from .raw import damage
from .values import NUMBERS, STRINGS

_LENGTHS = (-32768, -1, 0, 1, 2, 3, 4, 5, 7, 8, 255, 1000, 30_000, 32_767)
_SHAPES = (
    (30_000, 1, 1),
    (1, 30_000, 1),
    (1, 1, 30_000),
    (1, 1, 1),
    (2, 2, 2),
    (300, 1, 3),
    (5000, 2, 1),
    (1, 1, 64),
)
_SCALES = (0, -1, 1e-45, 1e-30, 1e-9, 1e-6, 1e-4, 0.01, 1e3, 1e6, 1e19, 1e30, 3e38, np.inf, -np.inf, np.nan)
_EXTENSIONS = (
    '<CaretExtension><LabelTable><Label Key="{n}"><![CDATA[{s}]]></Label></LabelTable></CaretExtension>',
    '<CaretExtension><LabelTable><Label Key="6"><![CDATA[liver]]></Label><Label Key="{n}">{s}</Label></LabelTable>'
    "</CaretExtension>",
    '<CaretExtension><LabelTable><Label Key="1">{s}</Label><Label Key="1">spleen</Label></LabelTable>'
    "</CaretExtension>",
    '<!DOCTYPE x [<!ENTITY a "{s}">]><LabelTable><Label Key="1">&a;</Label></LabelTable>',
    "<LabelTable>" * 20_000,
)


def change_nifti(rng: Random, content: bytes) -> bytes:
    """A .nii file with a changed header, changed voxels or damaged bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(content) < 352 or rng.random() < 0.1:
            content = damage(rng, content)
        else:
            content = rng.choice(_CHANGES)(rng, content)
    return content


def change_packed(rng: Random, content: bytes) -> bytes:
    """A .nii.gz file with a changed NIfTI in it, or a damaged gzip around it, or a bomb."""
    what = rng.random()
    if what < 0.2:
        return damage(rng, content)
    inner = gzip.decompress(content)
    if what < 0.23:
        return _pack(inner) + _zeros(rng.choice((1, 64, 4096)))
    if what < 0.25:
        return _pack(inner[:400]) + _zeros(4096) + _pack(inner[400:])
    if what < 0.28:
        return _pack(inner[:200]) + rng.choice((b"", rng.randbytes(30), _pack(b""))) + _pack(inner[200:])
    return _pack(change_nifti(rng, inner))


def _pack(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


@functools.cache
def _zeros(mebibytes: int) -> bytes:
    """A gzip member of zeros that unpacks to so many MiB; a thousandth of it is packed."""
    first = zlib.compressobj(9, wbits=-15)
    block = first.compress(bytes(1 << 20)) + first.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, wbits=-15).flush()
    return (
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        + block * mebibytes
        + end
        + struct.pack("<II", 0, mebibytes << 20 & 0xFFFFFFFF)
    )


def _header(content: bytes) -> np.ndarray:
    return np.frombuffer(content[:348], nib.nifti1.header_dtype).reshape(()).copy()


def _field(rng: Random, content: bytes) -> bytes:
    """Any field, or one of those that decide how the rest is read."""
    header = _header(content)
    telling = (
        "dim",
        "datatype",
        "vox_offset",
        "scl_slope",
        "scl_inter",
        "pixdim",
        "qform_code",
        "sform_code",
        "srow_x",
    )
    name = rng.choice(telling if rng.random() < 0.6 else header.dtype.names)
    flat = header[name].reshape(-1)
    place = rng.randrange(flat.size)
    if flat.dtype.kind == "S":
        header[name] = rng.randbytes(flat.dtype.itemsize)
    elif flat.dtype.kind == "f":
        with np.errstate(over="ignore"):
            flat[place] = np.float32(float(rng.choice((*_SCALES, rng.uniform(-500, 500)))))
    elif name == "dim":
        flat[place] = rng.choice(_LENGTHS)
    elif name == "datatype":
        flat[place] = rng.choice((*sorted(nib.nifti1.data_type_codes.value_set()), -1, 3, 9999))
    else:
        span = np.iinfo(flat.dtype)
        least, most = int(span.min), int(span.max)
        flat[place] = min(rng.choice((0, 1, 2, 3, 8, 348, 540, least, most, rng.randint(least, most))), most)
    return header.tobytes() + content[348:]


def _shape(rng: Random, content: bytes) -> bytes:
    """Another shape, of few voxels that are there or of many that are not."""
    header = _header(content)
    if rng.random() < 0.5:
        shape = rng.choice(_SHAPES)
        body = content[352:] or b"\0"
        wanted = int(np.prod(shape)) * 2
        content = content[:352] + (body * (wanted // len(body) + 1))[:wanted]
    else:
        shape = tuple(rng.choice(_LENGTHS) for _ in range(rng.choice((1, 2, 3, 3, 3, 4, 7))))
    header["dim"] = [rng.choice((len(shape), 3, 7)), *shape, *[1] * (7 - len(shape))]
    return header.tobytes() + content[348:]


def _geometry(rng: Random, content: bytes) -> bytes:
    """Other axes: scaled, mirrored, permuted, sheared, singular or not finite."""
    header = _header(content)
    affine = np.array([header["srow_x"], header["srow_y"], header["srow_z"]])
    what = rng.randrange(5)
    with np.errstate(all="ignore"):
        if what == 0:
            affine[:, rng.randrange(4)] *= np.float32(rng.choice(_SCALES))
        elif what == 1:
            affine *= np.float32(rng.choice(_SCALES))
        elif what == 2:
            affine = affine[rng.sample(range(3), 3)]
        elif what == 3:
            affine[:, :3] += np.float32([[rng.uniform(-9, 9) for _ in range(3)] for _ in range(3)])
        else:
            affine[rng.randrange(3), rng.randrange(4)] = rng.choice(_SCALES)
    header["srow_x"], header["srow_y"], header["srow_z"] = affine
    header["sform_code"], header["qform_code"] = rng.choice(((1, 0), (1, 1), (0, 1), (4, 2), (0, 0), (-5, 99)))
    return header.tobytes() + content[348:]


def _voxels(rng: Random, content: bytes) -> bytes:
    """Voxels of another type, or with values that labels and HU do not have."""
    header = _header(content)
    dtype = rng.choice(("i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8"))
    voxels = np.frombuffer(content[352 : 352 + (len(content) - 352) // 2 * 2], "<i2").copy()
    if voxels.size and rng.random() < 0.5:
        voxels[rng.randrange(voxels.size)] = rng.choice(
            (-32768, -1025, -1, 0, 1, 16, 17, 200, 255, 256, 3071, 32767)
        )
    elif rng.random() < 0.5:
        voxels[:] = rng.choice((-1000, 0, 1, 16, 40, 255))
    changed = voxels.astype(dtype)
    if changed.size and changed.dtype.kind == "f":
        with np.errstate(over="ignore"):
            changed[rng.randrange(changed.size)] = float(rng.choice((*_SCALES, 0.5, *NUMBERS[:20])))
    header["datatype"] = nib.nifti1.data_type_codes[changed.dtype.type]
    header["bitpix"] = changed.dtype.itemsize * 8
    return header.tobytes() + content[348:352] + changed.tobytes()


def _extension(rng: Random, content: bytes) -> bytes:
    """An extension with a label table, or with a size that is not its own."""
    text = rng.choice(_EXTENSIONS).replace("{n}", str(rng.choice(NUMBERS))).replace("{s}", rng.choice(STRINGS))
    block = text.encode("utf-8", "replace") if rng.random() < 0.8 else rng.randbytes(50)
    size = -(-(len(block) + 8) // 16) * 16
    said = size if rng.random() < 0.7 else rng.choice((-16, 0, 1, 8, 16, 2**31 - 1, size + 16, size - 16))
    extension = struct.pack("<ii", said, rng.choice((0, 4, 6, 30, -1))) + block.ljust(size - 8, b"\0")
    header = _header(content)
    header["vox_offset"] = 352 + size if rng.random() < 0.8 else header["vox_offset"]
    return header.tobytes() + b"\1\0\0\0" + extension + content[352:]


def _swapped(rng: Random, content: bytes) -> bytes:
    return _header(content).byteswap().tobytes() + content[348:]


def _second(rng: Random, content: bytes) -> bytes:
    """The same header in NIfTI-2's form, whose lengths have 64 bits."""
    old = nib.Nifti1Header(_header(content).tobytes(), check=False)
    with np.errstate(all="ignore"):
        header = nib.Nifti2Header()
        header["magic"], header["eol_check"] = b"n+2", (13, 10, 26, 10)
        for name in (
            "dim",
            "datatype",
            "bitpix",
            "pixdim",
            "srow_x",
            "srow_y",
            "srow_z",
            "sform_code",
            "qform_code",
        ):
            header[name] = old[name]
        header["vox_offset"] = rng.choice((544, 544, 544, 0, -1, 2**62, 540, 348))
        if rng.random() < 0.5:
            header["dim"][rng.randrange(8)] = rng.choice((*_LENGTHS, 2**31, 2**62, -(2**63), 2**63 - 1))
    return header.binaryblock + content[348:]


_CHANGES = (_field, _field, _field, _shape, _geometry, _geometry, _voxels, _extension, _swapped, _second)
