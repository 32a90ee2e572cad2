"""A store of small cases, and studies of it that take seconds."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from small_runs import OPTIONS

from ctsynth.augment.plan import StudyConfig, make_plan
from ctsynth.augment.study import Study
from ctsynth.data.slices import to_slices
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22
from ctsynth.stop import Stop

SIZE = 16

SMALL = {
    "method": "ddpm-concat", "preset": "tiny", "iterations": 6, "generator_iterations": 2, "steps": 1,
    "segmenter_options": {"channels": 4, "multipliers": (1, 2)},
    "generator_options": OPTIONS,
}  # fmt: skip
"""Networks and training of a second."""


def patient(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels, (32, 32, 6): fat around muscle, and in it a liver and a spleen at places of their own."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5, np.arange(6), indexing="ij")
    radius = np.hypot(x, y)
    mask = np.where(radius < 15, AMOS22.body_id, 0).astype(np.uint8)
    hu = np.select([radius < 11, radius < 15], [40, -100], -1000) + rng.integers(-15, 16, mask.shape)
    for organ, center, size in ((6, rng.uniform((3, -4), (6, 4)), 5), (1, rng.uniform((-7, -4), (-4, 4)), 3)):
        inside = np.hypot(x - center[0], y - center[1]) < size - 0.3 * abs(z - 2.5)
        mask[inside] = organ
        hu[inside] += 60
    return hu.astype(np.int16), mask


@pytest.fixture(scope="session")
def study_store(tmp_path_factory) -> Store:
    """Four training subjects and two test subjects, 16 x 16."""
    root = tmp_path_factory.mktemp("study") / "out"
    settings = {"size": SIZE, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    names = []
    for number in range(6):
        hu, mask = patient(number)
        geometry = Geometry(hu.shape, np.diag([4.0, 4.0, 5.0, 1.0]))
        split = "train" if number < 4 else "test"
        record = {"name": f"amos_{number:04}", "split": split, "geometry": geometry.as_json()}
        ct = to_slices(Window().clip(hu), SIZE, "ct")
        write_subject(root, record, settings, ct, to_slices(mask, SIZE, "labels"))
        names.append((split, record["name"]))
    write_manifest(root, settings, names)
    return Store.open(root)


@pytest.fixture(scope="module")
def study_of():
    """Makes a study with the small networks; loss.png is left out, which takes longer than these trainings."""
    with mock.patch("ctsynth.figures.loss_curve"):
        yield make_study


def make_study(store: Store, out: Path, *, overwrite: bool = False, **settings: object) -> Study:
    """A study with the small networks."""
    config = StudyConfig(**{"fractions": (1.0,), "draws": 1, "seeds": 1, "doses": (1,), **SMALL, **settings})
    return Study(store, make_plan(store, config), out, torch.device("cpu"), Stop(), overwrite)
