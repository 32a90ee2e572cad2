"""The commands of the guides do what the pages say."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from label_names import write_names
from small_runs import ctsynth, settings

from ctsynth.data.store import Store
from ctsynth.label_files import label_set

PAGE = (Path(__file__).parents[1] / "docs" / "guides" / "labels.md").read_text(encoding="utf-8")
SMALL = {
    "preprocess": ["--size", 16, "--workers", 1],
    "train": settings(),
    "sample": ["--steps", 2, "--device", "cpu"],
}
"""What is added to a command of the page, so that it takes seconds."""


def blocks(section, language):
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(section):
    """Runs the commands of a section, in the order of the page; gives what each printed, by its first words."""
    printed = {}
    for line in "".join(blocks(section, "sh")).splitlines():
        if not line.startswith("ctsynth "):
            subprocess.run(["bash", "-euc", line], check=True)
            continue
        command, *words = shlex.split(line)[1:]
        done = ctsynth(command, *words, *SMALL[command])
        assert done.exit_code == 0, (line, done.stderr)
        printed[line] = done.stdout
    return printed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_is_run():
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    run_here = set(re.findall(r'run\("([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {section for section in sections if blocks(section, "sh")} <= run_here


def test_nnunet(folder, small_case, write_nifti):
    raw = folder / "Dataset042_Lesions"
    for n in (1, 2):
        case = small_case(n)
        labels = np.select([case.labels == 6, case.labels == 1], [1, 2], 0).astype(np.uint8)
        labels[tuple(axis[:40] for axis in np.nonzero(labels == 1))] = 3
        write_nifti(raw / "imagesTr" / f"case_{n:03}_0000.nii.gz", case.hu, case.affine)
        write_nifti(raw / "labelsTr" / f"case_{n:03}.nii.gz", labels, case.affine)
    names = {"background": 0, "Liver": 1, "spleen": 2, "tumor": 3}
    (raw / "dataset.json").write_text(json.dumps({"labels": names}))
    printed = run("nnU-Net")
    assert Store.open(folder / "out").labels.names == {1: "Liver", 2: "spleen", 3: "tumor", 4: "body"}
    assert Store.open(folder / "organs").labels.name == "amos22"
    assert any("case_001_synthetic.nii.gz" in words for words in printed.values())


def test_a_label_set_in_a_file(folder, small_case, write_nifti):
    (folder / "lesions.json").write_text(blocks("A label set in a file", "json")[0])
    for n in (1, 2):
        case = small_case(n)
        labels = np.select([case.labels == 6, case.labels == 1], [1, 2], 0).astype(np.uint8)
        write_nifti(folder / "mine" / "ct" / f"case_{n:03}.nii.gz", case.hu, case.affine)
        write_nifti(folder / "mine" / "seg" / f"case_{n:03}.nii.gz", labels, case.affine)
    run("A label set in a file")
    store = Store.open(folder / "out")
    assert store.labels.names == {1: "liver", 2: "tumor", 3: "body"}
    assert [organ.dice for organ in store.labels.classes] == ["liver", None]
    (subject,) = store.subjects("test")
    assert set(subject.voxels) == {0, 1, 2, 3}


TOTALSEGMENTATOR = '#!/bin/sh\nmkdir -p "$(dirname "$4")" && cp "$MADE/$(basename "$2")" "$4"\n'
"""In the place of the program: its masks are there already."""


def test_totalsegmentator(folder, small_case, write_nifti, monkeypatch):
    total = {organ.name: organ.id for organ in label_set("totalsegmentator").classes}
    for n in (1, 2):
        case = small_case(n)
        labels = np.select([case.labels == 6, case.labels == 1], [total["liver"], total["spleen"]], 0)
        labels[14:18, 4:7] = total["vertebrae_L1"]
        write_nifti(folder / "mine" / "ct" / f"case_{n:03}.nii.gz", case.hu, case.affine)
        made = write_nifti(folder / "made" / f"case_{n:03}.nii.gz", labels.astype(np.uint8), case.affine)
        write_names(made, {number: name for name, number in total.items()})
    (folder / "bin").mkdir()
    (folder / "bin" / "TotalSegmentator").write_text(TOTALSEGMENTATOR)
    (folder / "bin" / "TotalSegmentator").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MADE", str(folder / "made"))
    printed = run("TotalSegmentator")
    named = {total[n] for n in ("liver", "spleen", "vertebrae_L1")}
    soft_tissue = label_set("totalsegmentator").body_id + 3
    for name, bones in (("out", {6, 1, 16}), ("all", named), ("dense", named | {soft_tissue})):
        (subject,) = Store.open(folder / name).subjects("test")
        assert bones <= set(subject.voxels)
    assert "mine/seg/case_001_synthetic.nii.gz\n" in printed.values()


def test_tissues(folder, small_amos):
    small_amos()
    run("Tissues")
    store = Store.open(folder / "out")
    assert store.labels == label_set("amos22+tissues")
    for place, origin in (("told", "ct"), ("not_told", "none")):
        assert json.loads((folder / place / "amos_0101_synthetic.json").read_text())["tissues"] == origin
