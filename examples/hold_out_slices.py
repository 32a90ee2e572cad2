"""Splits cases into slabs of slices: some to train on, some held out, for a look at a method with few patients.

    python examples/hold_out_slices.py SRC OUT --held CASE:FIRST:LAST ...

SRC is in AMOS22's layout, and so is OUT: the held-out slices FIRST to LAST (from 0, LAST not included) become test
subjects CASE_heldFIRST, what lies between them training subjects CASE_partFIRST. Slices next to those that were
trained on look like them: what is drawn for held-out slices says nothing about other patients.
"""

from __future__ import annotations

import argparse
import shutil
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np


def main() -> None:
    """Writes the slabs, and SRC's dataset.json for the names of the labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("src", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--held", nargs="+", required=True, metavar="CASE:FIRST:LAST")
    asked = parser.parse_args()
    held = defaultdict(list)
    for words in asked.held:
        case, first, last = words.rsplit(":", 2)
        held[case].append((int(first), int(last)))
    for case, parts in held.items():
        for kind in ("images", "labels"):
            (path,) = asked.src.glob(f"{kind}*/{case}.nii.gz")
            volume = nib.load(path)
            for name, to, first, last in slabs(case, sorted(parts), volume.shape[2]):
                folder = asked.out / f"{kind}{to}"
                folder.mkdir(parents=True, exist_ok=True)
                nib.save(volume.slicer[:, :, first:last], folder / f"{name}.nii.gz")
    shutil.copy(asked.src / "dataset.json", asked.out)


def slabs(case: str, held: list[tuple[int, int]], slices: int) -> list[tuple[str, str, int, int]]:
    """Name, ``Tr`` or ``Va``, first and last slice of each slab; every slice is in one."""
    ends = np.array([0, *(end for part in held for end in part), slices])
    found = [
        (f"{case}_part{a:02d}", "Tr", int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b
    ]
    return found + [(f"{case}_held{first:02d}", "Va", first, last) for first, last in held]


if __name__ == "__main__":
    main()
