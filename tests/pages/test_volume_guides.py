"""The guides to AMOS22 and to whole volumes."""

import json

from page_blocks import runs
from small_runs import ctsynth, fit, labels_like
from small_stores import both_splits

from ctsynth.data.store import Store
from ctsynth.data.volume import Volume


@runs("docs/guides/amos22.md")
def test_from_amos22_to_table_2(page, tmp_path, small_amos):
    small_amos(train=1, test=1).rename(tmp_path / "amos22")
    assert ctsynth("preprocess", "amos22", "out", *page.small["preprocess"]).exit_code == 0
    fit(Store.open(tmp_path / "out"), tmp_path / "runs" / "ddpm-mask", "ddpm-mask")
    page.smaller |= {"50000,100000,150000 --preset paper": "6", "--method ddpm-mask": "--method ddpm-concat"}
    page.run()
    assert "ddpm-edge" in (tmp_path / "train.sbatch").read_text()
    for number in (1, 2):
        assert "Mask-guided DDPM" in (tmp_path / "report" / f"table-{number}.md").read_text()


@runs("docs/guides/volumes.md")
def test_volumes_that_hold_together(page, tmp_path, small_case, write_nifti):
    fit(both_splits(tmp_path / "out", small_case), tmp_path / "runs" / "ddpm-mask", "ddpm-mask")
    case = small_case(3)
    write_nifti(tmp_path / "seg.nii.gz", labels_like(case), case.affine)
    write_nifti(tmp_path / "ct.nii.gz", case.hu, case.affine)
    page.smaller["0:10,40:50"] = "0:2,4:5"
    page.run()
    assert Volume.load(tmp_path / "filled.nii.gz").voxels.shape == case.hu.shape
    scores = json.loads((tmp_path / "drawn" / "volume" / "scores.json").read_text())
    assert set(scores["metrics"]) >= {"z-gradient", "z-correlation", "z-flicker"}
    assert (tmp_path / "report" / "viewer.html").is_file()
