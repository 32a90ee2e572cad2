"""The deform guide's commands make label maps, and volumes of them."""

import json

import numpy as np
from page_blocks import runs
from small_runs import fit, labels_like
from small_stores import both_splits


@runs("docs/guides/deform.md")
def test_deformed_label_maps_are_drawn(page, tmp_path, small_case, write_nifti):
    fit(both_splits(tmp_path / "out", small_case), tmp_path / "runs" / "ddpm-mask")
    case = small_case(1)
    for name in ("labels/one.nii.gz", "seg.nii.gz"):
        write_nifti(tmp_path / name, labels_like(case), case.affine)
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "spleen", "6": "liver"}})
    )
    tumor = (case.labels == 6) & (np.arange(6) > 1) & (np.arange(6) < 5)
    write_nifti(tmp_path / "tumor.nii.gz", tumor.astype(np.uint8), case.affine)
    few = "--samples 1 --strength 0.3"
    page.smaller |= {"--samples 8": few, "--samples 4": few}
    page.run()
    assert (tmp_path / "synthetic" / "one_deformed_0_synthetic.nii.gz").is_file()
    assert (tmp_path / "with_tumor" / "seg_deformed_0.nii.gz").is_file()
