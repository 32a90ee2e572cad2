"""A short ``ctsynth train`` on a store of 2,000 subjects beside one of 2: what a start costs must not grow."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from ctsynth.data.manifest import SCHEMA
from ctsynth.data.store import write_manifest
from ctsynth.data.volume import Geometry
from ctsynth.files import sha256
from ctsynth.labels import AMOS22

from .row import Row, Side

SHAPE = (130, 64, 64)
"""Of a subject, that is of the files: they are sparse, all zeros but for a pixel."""


def starts(cost: str, official: Path, folder: Path) -> tuple[Side, Side]:
    """What the process takes: CPU seconds or, in bytes, memory at most."""
    runs = map(str, itertools.count())

    def side(subjects: int) -> Side:
        store = _sparse_store(folder / f"{subjects}", subjects)
        words = ["train", "--method", "ddpm-concat", "--preset", "tiny", "--iterations", "1", "--device", "cpu"]

        def run() -> float:
            more = ["--data", store, "--out", folder / "runs" / next(runs)]
            command = [sys.executable, "-m", "ctsynth", *words, *more]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            return usage.ru_maxrss * 1024 if cost == "B" else usage.ru_utime + usage.ru_stime

        return run

    return side(2000), side(2)


def _sparse_store(root: Path, subjects: int) -> Path:
    settings = {"size": SHAPE[1], "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    geometry = Geometry(SHAPE[::-1], np.diag([6.0, 6.0, 3.0, 1.0])).as_json()
    for number in range(subjects):
        folder = root / "train" / f"subject_{number}"
        folder.mkdir(parents=True)
        record = {"name": folder.name, "split": "train", "geometry": geometry, "slices": SHAPE[0]}
        record["voxels"] = {"0": int(np.prod(SHAPE))}
        for name, dtype in (("ct", np.int16), ("mask", np.uint8)):
            file = folder / f"{name}.npy"
            array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=SHAPE)
            array[0, 0, 0] = number if name == "ct" else 0  # no two subjects of a store have the same image
            array.flush()
            record[f"{name}_sha256"] = sha256(file)
        content = {"schema": SCHEMA, "settings": settings, "subject": record}
        (folder / "subject.json").write_text(json.dumps(content))
    write_manifest(root, settings, [("train", f"subject_{number}") for number in range(subjects)])
    return root


ROWS = (
    Row(
        name="start",
        quantity="ctsynth train for a step of ddpm-concat, tiny preset, on 2,000 subjects, 130 slices of 64 x 64",
        peer="on 2 subjects",
        hold=1.30,
        setup=partial(starts, "s"),
        returned=True,
    ),
    Row(
        name="start-memory",
        quantity="the same: memory at most",
        peer="on 2 subjects",
        hold=1.10,
        setup=partial(starts, "B"),
        returned=True,
        unit="B",
    ),
)
