"""DICOM: a folder with a CT series, in and out; labels as a segmentation (SEG) or as contours (RTSTRUCT), in."""

from __future__ import annotations

from pathlib import Path

from ctsynth.data.dicom.headers import CT, RTSTRUCT, SEGS, header, wanted
from ctsynth.data.volume import Volume
from ctsynth.errors import DataError


def load(path: Path, ct: Path | None = None) -> Volume:
    """Reads a CT series, or labels; these on the grid of their CT, which is looked for if it is not named."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    with wanted(path):
        if path.is_dir():
            from ctsynth.data.dicom.series import read_series

            return read_series(path)
        kind = header(path).get("SOPClassUID", "")
        if kind in SEGS:
            from ctsynth.data.dicom.segments import read_segments

            return read_segments(path, ct)
        if kind == RTSTRUCT:
            from ctsynth.data.dicom.contours import read_contours

            return read_contours(path, ct)
    what = "one slice of a CT" if kind == CT else f"DICOM of another kind ({kind or 'none'})"
    hint = "name the folder of its series" if kind == CT else "wanted a CT series, a SEG or an RTSTRUCT"
    raise DataError(f"{path}: {what}", hint=hint)


def save(volume: Volume, path: Path, description: str, window: tuple[float, float] | None) -> None:
    """Writes a folder with a CT series of axial slices."""
    with wanted(path):
        from ctsynth.data.dicom.write import write_series

        write_series(volume, path, description, window)


def description(path: Path) -> str:
    """What the first slice says of its series; empty if it cannot be read."""
    try:
        with wanted(path):
            first = next((file for file in sorted(path.iterdir()) if file.is_file()), path)
            return str(header(first).get("DerivationDescription", ""))
    except (DataError, OSError):
        return ""


def is_labels(path: Path) -> bool:
    """Whether a DICOM file holds labels; False where nothing here can tell."""
    try:
        with wanted(path):
            return header(path).get("SOPClassUID") in (*SEGS, RTSTRUCT)
    except DataError:
        return False
