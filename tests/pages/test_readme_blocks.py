"""README's commands and python run on small cases, as written but for the number of GPUs."""

import numpy as np
from page_blocks import runs
from small_runs import labels_like

import ctsynth
from ctsynth.data.volume import Volume


@runs("README.md")
def test_from_data_to_a_page(page, tmp_path, small_amos, small_case, write_nifti):
    small_amos(train=1, test=1)
    case = small_case(3)
    mask = write_nifti(tmp_path / "seg.nii.gz", labels_like(case), case.affine)
    page.smaller[" --gpus 4"] = ""
    page.namespace |= {"ctsynth": ctsynth, "labels": np.moveaxis(labels_like(case), -1, 0)}
    page.run()
    drawn = Volume.load(tmp_path / "seg_synthetic.nii.gz")
    assert drawn.geometry.same_as(Volume.load(mask).geometry)
    assert (tmp_path / "report" / "index.html").is_file()
    assert "PSNR" in (tmp_path / "table.txt").read_text()
    assert page.namespace["hu"].shape == (6, 24, 32)[:1] + page.namespace["labels"].shape[1:]
