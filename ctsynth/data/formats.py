"""Formats of volumes: by which names each is known, and which module reads and writes it."""

from __future__ import annotations

import unicodedata
from importlib.util import find_spec
from pathlib import Path

from ctsynth.errors import DataError, UsageError

SUFFIXES = (".nii.gz", ".nii")
"""Suffixes of NIfTI, which needs no extra."""

EXTRA = "pip install 'ctsynth[formats]'"
"""Extra that the other formats need."""

WRITTEN = (*SUFFIXES, ".nrrd", ".mha", ".dicom")
"""Suffixes of what is written; ``.dicom`` is a folder, a DICOM series."""

_MODULES = {
    ".nii.gz": "nifti_volume",
    ".nii": "nifti_volume",
    ".seg.nrrd": "itk_volume",
    ".nrrd": "itk_volume",
    ".mha": "itk_volume",
    ".dicom": "dicom",
    ".dcm": "dicom",
}
"""By suffix, in any case; the longer one first."""

_NEEDS = {"itk_volume": ("SimpleITK",), "dicom": ("pydicom", "highdicom", "SimpleITK")}
"""Packages by module."""

_OTHER_SUFFIXES = (
    ".gz", ".zip", ".mhd", ".nhdr", ".img", ".hdr", ".mgz", ".mgh", ".mnc", ".mif", ".vtk", ".npy", ".npz", ".png",
    ".tif", ".tiff",
)  # fmt: skip
"""Suffixes of image files that are not written here; a folder is seldom meant by such a name."""


def module_of(path: Path) -> str:
    """The module that reads and writes a path: by its suffix; else by its content, DICOM or NIfTI."""
    return _MODULES.get(_suffix(path)) or ("dicom" if is_dicom(path) else "nifti_volume")


def needs_extra(path: Path, what: str, missing: str | None) -> DataError:
    """The error for a format whose libraries are not here."""
    return DataError(f"{path}: {what} needs {missing}, which is not installed", hint=EXTRA)


def check_installed(path: Path) -> None:
    """Refuses a file to write whose format needs what is not here, before there is anything to write.

    Raises:
        DataError: It does.
    """
    suffix = _suffix(path)
    for name in _NEEDS.get(_MODULES.get(suffix, ""), ()):
        if find_spec(name) is None:
            raise needs_extra(path, suffix, name)


def is_volume(path: Path) -> bool:
    """Whether a file has the name of a volume; hidden ones are half written. Of ``.dcm`` each is a slice."""
    return _suffix(path) not in ("", ".dcm") and not path.name.startswith(".")


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, or a folder holds one that does."""
    if path.is_dir():
        return any(is_dicom(file) for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def is_packed(path: Path) -> bool:
    """Whether a file's name says that it is gzipped."""
    return path.suffix.lower() == ".gz"


def stem(path: Path) -> str:
    """A volume's name without its suffix, in Unicode's composed form: that of ``path.stem`` for other files.

    Some systems keep an accent as a character of its own; both spellings are one name.
    """
    name, known = path.name, _suffix(path)
    length = len(known) if known or path.is_dir() else len(path.suffix)
    return composed(name[: len(name) - length])


def renamed(path: Path, name: str) -> Path:
    """A volume of another name beside it, of the same format."""
    return path.with_name(name + path.name[len(path.name) - len(_suffix(path)) :])


def samples_beside(volume: Path) -> list[Path]:
    """All samples of the mask of a sample, NAME_synthetic_0 and on; none where a volume is no sample."""
    name, _, number = stem(volume).rpartition("_synthetic_")
    if not (name and number.isdecimal()):
        return []
    found: list[Path] = []
    while (path := renamed(volume, f"{name}_synthetic_{len(found)}")).exists():
        found.append(path)
    return found


def composed(name: str) -> str:
    """A name as ``stem`` gives it."""
    return unicodedata.normalize("NFC", name)


def record_beside(volume: Path) -> Path:
    """The JSON file that says what a volume was made with."""
    return volume.with_name(stem(volume) + ".json")


def names_a_file(out: Path) -> bool:
    """Whether an output path is that of a volume, and not of a folder.

    Raises:
        UsageError: It has the suffix of an image format that is not written.
    """
    suffix = _suffix(out)
    if suffix == ".dicom" or (suffix in WRITTEN and not out.is_dir()):
        return True
    other = suffix if suffix not in ("", *WRITTEN) else out.suffix.lower()
    if (other in _MODULES or other in _OTHER_SUFFIXES) and not out.is_dir():
        raise UsageError(
            f"`out` {out}: {other} is not written, wanted {', '.join(WRITTEN)} or a folder",
            hint=f"say `out` {out.with_name(stem(out))}.nii.gz and convert it",
        )
    return False


def _suffix(path: Path) -> str:
    """The known suffix that a name ends in, in small letters; empty where there is none."""
    name = path.name.lower()
    return next((suffix for suffix in _MODULES if name.endswith(suffix)), "")
