"""A slice store and synthetic volumes of it, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ctsynth.data.slices import stack, stacked_geometry, to_slices
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22


def make_store(root: Path, cases, *, size: int = 32, split: str = "test") -> Store:
    """A store of small cases, named subject_0 and so on; labels with body."""
    settings = {"size": size, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    names = []
    for number, case in enumerate(cases):
        mask = np.where((case.labels == 0) & (case.hu > -500), AMOS22.body_id, case.labels).astype(np.uint8)
        geometry = Geometry(case.hu.shape, case.affine)
        record = {"name": f"subject_{number}", "split": split, "geometry": geometry.as_json()}
        ct = to_slices(Window().clip(case.hu), size, "ct")
        write_subject(root, record, settings, ct, to_slices(mask, size, "labels"))
        names.append((split, record["name"]))
    write_manifest(root, settings, names)
    return Store.open(root)


def both_splits(root: Path, make_case, *, size: int = 16, train: int = 2) -> Store:
    """A store of two training subjects, or as many as given up to seven, and one test subject."""
    cases = [make_case(seed) for seed in range(train)]
    make_store(root, cases, size=size, split="train")
    manifest = (root / "manifest.json").read_text()
    make_store(root / "more", [make_case(7)], size=size)
    (root / "test").mkdir()
    (root / "more" / "test" / "subject_0").rename(root / "test" / "subject_t")
    return _merged(root, manifest)


def _merged(root: Path, manifest: str) -> Store:
    content = json.loads(manifest)
    other = json.loads((root / "more" / "manifest.json").read_text())
    content["subjects"] += [record | {"name": "subject_t"} for record in other["subjects"]]
    (root / "manifest.json").write_text(json.dumps(content))
    return Store.open(root)


def imitation(ct: np.ndarray, seed: int = 0, noise: float = 10.0) -> np.ndarray:
    """Synthetic slices: the real ones with noise inside the window, int16 HU."""
    rng = np.random.default_rng(seed)
    return np.clip(ct + rng.normal(0, noise, ct.shape) * (ct > -160), -160, 240).round().astype(np.int16)


def write_synthetic(folder: Path, store: Store, *, split: str = "test", record=None, suffix: str = "") -> Path:
    """Synthetic volumes of a split on the grid of the stacked slices, beside each what it was drawn with."""
    for number, subject in enumerate(store.subjects(split)):
        slices = imitation(np.asarray(subject.ct()), seed=number)
        geometry = stacked_geometry(subject.geometry, store.size)
        Volume(stack(slices), geometry).save(folder / f"{subject.name}{suffix}.nii.gz")
        if record is not None:
            content = json.dumps(record | {"subject": subject.name})
            (folder / f"{subject.name}{suffix}.json").write_text(content)
    return folder
