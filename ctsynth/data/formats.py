"""Names of volume files: the suffixes that are read and written, in any case, and a name without them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from ctsynth.errors import UsageError

SUFFIXES = (".nii.gz", ".nii")

_OTHER_SUFFIXES = (
    ".gz", ".zip", ".mha", ".mhd", ".nrrd", ".nhdr", ".img", ".hdr", ".dcm", ".mgz", ".mgh", ".mnc", ".mif",
    ".vtk", ".npy", ".npz", ".png", ".tif", ".tiff",
)  # fmt: skip
"""Of image files that are not written here; a folder is seldom meant by such a name."""


def is_volume(path: Path) -> bool:
    """Whether a file has the name of a volume; hidden ones are half written."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def is_packed(path: Path) -> bool:
    """Whether a file's name says that it is gzipped."""
    return path.suffix.lower() == ".gz"


def stem(path: Path) -> str:
    """A volume's name without .nii or .nii.gz, in Unicode's composed form: that of ``path.stem`` for other files.

    Some systems keep an accent as a character of its own; both spellings are one name.
    """
    name = path.name
    length = next((len(suffix) for suffix in SUFFIXES if name.lower().endswith(suffix)), len(path.suffix))
    return composed(name[: len(name) - length])


def composed(name: str) -> str:
    """A name as ``stem`` gives it."""
    return unicodedata.normalize("NFC", name)


def volumes(folder: Path) -> list[Path]:
    """The volumes of a folder, by name."""
    return sorted(path for path in folder.iterdir() if is_volume(path))


def record_beside(volume: Path) -> Path:
    """The JSON file that says what a volume was made with."""
    return volume.with_name(stem(volume) + ".json")


def names_a_file(out: Path) -> bool:
    """Whether an output path is that of a volume, and not of a folder.

    Raises:
        UsageError: It has the suffix of an image format that is not written.
    """
    if out.name.lower().endswith(SUFFIXES):
        return not out.is_dir()
    if out.suffix.lower() in _OTHER_SUFFIXES and not out.is_dir():
        raise UsageError(
            f"--out {out}: {out.suffix} is not written, wanted .nii.gz, .nii or a folder",
            hint=f"say --out {out.with_name(stem(out))}.nii.gz and convert it",
        )
    return False
