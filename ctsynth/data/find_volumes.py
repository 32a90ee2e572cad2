"""The volumes of a folder."""

from __future__ import annotations

from pathlib import Path

from ctsynth.data.dicom import is_labels
from ctsynth.data.formats import is_dicom, is_volume


def volumes(folder: Path) -> list[Path]:
    """The volumes of a folder, by name: files, folders that are a DICOM series, and DICOM labels."""
    return sorted(path for path in folder.iterdir() if is_volume(path) or _is_dicom_volume(path))


def _is_dicom_volume(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_dicom(path)
    if path.suffix.lower() not in (".dcm", "") or not is_dicom(path):
        return False
    return is_labels(path)
