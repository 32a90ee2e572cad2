"""The commands of the guides do what the pages say."""

import json
import os

import numpy as np
from label_names import write_names
from page_blocks import runs

from ctsynth.data.store import Store
from ctsynth.label_files import label_set


@runs("docs/guides/labels.md", "nnU-Net")
def test_nnunet(page, tmp_path, small_case, write_nifti):
    raw = tmp_path / "Dataset042_Lesions"
    for n in (1, 2):
        case = small_case(n)
        labels = np.select([case.labels == 6, case.labels == 1], [1, 2], 0).astype(np.uint8)
        labels[tuple(axis[:40] for axis in np.nonzero(labels == 1))] = 3
        write_nifti(raw / "imagesTr" / f"case_{n:03}_0000.nii.gz", case.hu, case.affine)
        write_nifti(raw / "labelsTr" / f"case_{n:03}.nii.gz", labels, case.affine)
    names = {"background": 0, "Liver": 1, "spleen": 2, "tumor": 3}
    (raw / "dataset.json").write_text(json.dumps({"labels": names}))
    page.run()
    assert Store.open(tmp_path / "out").labels.names == {1: "Liver", 2: "spleen", 3: "tumor", 4: "body"}
    assert Store.open(tmp_path / "organs").labels.name == "amos22"
    assert any("case_001_synthetic.nii.gz" in words for words in page.printed.values())


@runs("docs/guides/labels.md", "A label set in a file")
def test_a_label_set_in_a_file(page, tmp_path, small_case, write_nifti):
    for n in (1, 2):
        case = small_case(n)
        labels = np.select([case.labels == 6, case.labels == 1], [1, 2], 0).astype(np.uint8)
        write_nifti(tmp_path / "mine" / "ct" / f"case_{n:03}.nii.gz", case.hu, case.affine)
        write_nifti(tmp_path / "mine" / "seg" / f"case_{n:03}.nii.gz", labels, case.affine)
    page.run()
    store = Store.open(tmp_path / "out")
    assert store.labels.names == {1: "liver", 2: "tumor", 3: "body"}
    assert [organ.dice for organ in store.labels.classes] == ["liver", None]
    (subject,) = store.subjects("test")
    assert set(subject.voxels) == {0, 1, 2, 3}


TOTALSEGMENTATOR = '#!/bin/sh\nmkdir -p "$(dirname "$4")" && cp "$MADE/$(basename "$2")" "$4"\n'
"""In the place of the program: its masks are there already."""


@runs("docs/guides/labels.md", "TotalSegmentator")
def test_totalsegmentator(page, tmp_path, small_case, write_nifti, monkeypatch):
    total = {organ.name: organ.id for organ in label_set("totalsegmentator").classes}
    for n in (1, 2):
        case = small_case(n)
        labels = np.select([case.labels == 6, case.labels == 1], [total["liver"], total["spleen"]], 0)
        labels[14:18, 4:7] = total["vertebrae_L1"]
        write_nifti(tmp_path / "mine" / "ct" / f"case_{n:03}.nii.gz", case.hu, case.affine)
        made = write_nifti(tmp_path / "made" / f"case_{n:03}.nii.gz", labels.astype(np.uint8), case.affine)
        write_names(made, {number: name for name, number in total.items()})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "TotalSegmentator").write_text(TOTALSEGMENTATOR)
    (tmp_path / "bin" / "TotalSegmentator").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    page.run()
    named = {total[n] for n in ("liver", "spleen", "vertebrae_L1")}
    soft_tissue = label_set("totalsegmentator").body_id + 3
    for name, bones in (("out", {6, 1, 16}), ("all", named), ("dense", named | {soft_tissue})):
        (subject,) = Store.open(tmp_path / name).subjects("test")
        assert bones <= set(subject.voxels)
    assert "mine/seg/case_001_synthetic.nii.gz\n" in page.printed.values()


@runs("docs/guides/labels.md", "Tissues")
def test_tissues(page, tmp_path, small_amos):
    small_amos()
    page.run()
    store = Store.open(tmp_path / "out")
    assert store.labels == label_set("amos22+tissues")
    for place, origin in (("from_tissues", "ct"), ("from_body", "none")):
        assert json.loads((tmp_path / place / "amos_0101_synthetic.json").read_text())["tissues"] == origin
