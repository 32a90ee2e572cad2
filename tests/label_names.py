"""Label volumes whose header names their labels, as TotalSegmentator writes it with ``--ml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np


def write_names(path: Path, names: Mapping[int, str]) -> None:
    """Writes names into the header of a NIfTI file that is there."""
    image = nib.load(path)
    rows = "".join(f'<Label Key="{number}" Red="1"><![CDATA[{name}]]></Label>' for number, name in names.items())
    table = f'<VolumeInformation Index="0"><LabelTable>{rows}</LabelTable></VolumeInformation>'
    text = f'<?xml version="1.0" encoding="UTF-8"?><CaretExtension>{table}</CaretExtension>'
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, text.encode()))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
