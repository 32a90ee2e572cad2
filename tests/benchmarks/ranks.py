"""Two CPU ranks beside one on as many cores, each a run of the command line on one store: reported, not held."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from ctsynth.data.slices import to_slices
from ctsynth.data.store import write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22
from ctsynth.phantom.subject import make_subject

from .row import Row, Side

STEPS = 20


def ranks(official: Path, folder: Path) -> tuple[Side, Side]:
    window, subject = Window(), make_subject(0, 0, size=64, slices=40)
    settings = {"size": 64, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    record = {
        "name": "subject",
        "split": "train",
        "geometry": Geometry(subject.hu.shape, subject.affine).as_json(),
    }
    slices = (
        to_slices(window.clip(subject.hu), 64, "ct"),
        to_slices(subject.labels, 64, "labels"),
    )
    write_subject(folder / "store", record, settings, *slices)
    write_manifest(folder / "store", settings, [("train", "subject")])
    runs = (folder / f"run-{number}" for number in itertools.count())
    return lambda: seconds_a_slice(folder, next(runs), 2), lambda: seconds_a_slice(folder, next(runs), 1)


def seconds_a_slice(folder: Path, run: Path, size: int) -> float:
    """By the clock, of the second half of a short training with two threads in all."""
    words = f"train --preset tiny --device cpu --batch-size 8 --iterations {STEPS} --ranks {size}".split()
    config = folder / "log.toml"
    config.write_text(f"training.log_every = {STEPS // 2}\n")
    subprocess.run(
        [sys.executable, "-m", "ctsynth", *words, "--data", folder / "store", "--out", run, "--config", config],
        check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": str(2 // size)},
    )  # fmt: skip
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return 1 / last["images_per_s"]


ROWS = (
    Row(
        name="ranks",
        quantity="seconds a slice of ddpm-mask, tiny preset, 64 x 64, batch 8: two CPU ranks of a thread",
        peer="one rank of two threads",
        hold=None,
        setup=ranks,
        returned=True,
    ),
)
