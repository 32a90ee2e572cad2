"""The CT that DICOM labels are of: it has the grid that they lie on."""

from __future__ import annotations

import logging
from pathlib import Path

from ctsynth.data.dicom.headers import CT, headers
from ctsynth.data.dicom.series import Series, find_series
from ctsynth.data.formats import is_dicom

log = logging.getLogger(__name__)


def find_ct(labels: Path, uid: str, ct: Path | None) -> Series | None:
    """The CT series that labels refer to; None if it is not found.

    It is ``ct``, if that is a folder of DICOM; else the series of that UID in the folder of the labels, in a
    folder of it, or in one beside it.

    Args:
        labels: The SEG's or RTSTRUCT's file.
        uid: UID of the series that it refers to; empty where it does not say.
        ct: The folder of the CT, where it is known.

    Raises:
        DataError: The series there cannot be used.
    """
    if ct is not None and ct.is_dir():
        return find_series(ct)
    own = labels.absolute().parent
    folders = [own, *sorted(path for near in (own, own.parent) for path in near.iterdir() if path.is_dir())]
    for folder in dict.fromkeys(folders):
        if uid and is_dicom(folder) and _holds(folder, uid):
            log.info("%s: on the grid of the CT in %s", labels, folder)
            return find_series(folder, uid)
    return None


def _holds(folder: Path, uid: str) -> bool:
    return any(
        found.get("SOPClassUID") == CT and str(found.get("SeriesInstanceUID")) == uid
        for _, found in headers(folder)
    )
