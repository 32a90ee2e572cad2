"""nnU-Net itself on the data sets of a study's arms: it verifies them, plans them, and keeps their split.

Needs the package (extra ``totalsegmentator``), and skips without.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctsynth.augment.nnunet import Case, Dataset, write_datasets
from ctsynth.data.slices import stack, stacked_geometry
from ctsynth.data.volume import Volume

pytestmark = pytest.mark.totalsegmentator


def case_of(subject, shift=0):
    """A subject's slices stacked again; ``shift`` HU make another image of the same labels."""

    def read():
        geometry = stacked_geometry(subject.geometry, subject.size)
        return Volume(stack(subject.ct() + shift).astype("int16"), geometry), Volume(
            stack(subject.mask()), geometry
        )

    return Case(f"{subject.name}_synthetic_0" if shift else subject.name, f"{subject.name} {shift}", read)


def test_nnunet_verifies_and_plans_the_data_set_of_every_arm(phantoms, tmp_path):
    if importlib.util.find_spec("nnunetv2") is None:
        pytest.skip("nnU-Net is not installed: pip install '.[totalsegmentator]'")
    *train, validation = phantoms.subjects("train")
    cases = [case_of(subject) for subject in train]
    common = {
        "validation": [case_of(validation)],
        "test": [case_of(subject) for subject in phantoms.subjects("test")],
    }
    arms = [
        Dataset(number=701, name="R", train=cases, **common),
        Dataset(number=702, name="R+S", train=[*cases, *(case_of(one, shift=8) for one in train)], **common),
    ]
    splits = [
        tmp_path / "nnUNet_preprocessed" / root.name / "splits_final.json"
        for root in write_datasets(tmp_path, arms, phantoms.labels)
    ]
    before = [path.read_text() for path in splits]
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    command = [Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess"), "-d", "701", "702"]
    options = ["--verify_dataset_integrity", "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
    ran = subprocess.run(
        [*command, *options], env={**os.environ, **folders, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("verify_dataset_integrity Done") == 2
    for path, text, cases in zip(splits, before, (4, 7), strict=True):
        plans = json.loads((path.parent / "nnUNetPlans.json").read_text())
        assert path.read_text() == text
        made = path.parent / plans["configurations"]["3d_fullres"]["data_identifier"]
        assert len(list(made.glob("*.pkl"))) == cases
