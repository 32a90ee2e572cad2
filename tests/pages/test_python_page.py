"""Every block of docs/python.md and every cell of the notebook runs."""

import json
import runpy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from page_blocks import ROOT, runs
from small_runs import fit, labels_like

import ctsynth
from ctsynth.data.store import Store
from ctsynth.phantom import make_phantom

DOCS = ROOT / "docs"
NOTEBOOK = json.loads((DOCS / "python.ipynb").read_text(encoding="utf-8"))


@runs("docs/python.md")
def test_every_block_of_the_page_runs(page, tmp_path, small_case, write_nifti, capsys):
    for end, numbers in {"Tr": (1, 2), "Va": (401,)}.items():
        for number in numbers:
            case, name = small_case(number), f"amos_{number:04}.nii.gz"
            write_nifti(tmp_path / "amos" / f"images{end}" / name, case.hu, case.affine)
            write_nifti(tmp_path / "amos" / f"labels{end}" / name, case.labels, case.affine)
    ctsynth.preprocess("amos/", "out/", size=16)
    fit(Store.open(Path("out")), tmp_path / "runs" / "ddpm-mask")
    case = small_case(3)
    write_nifti(tmp_path / "seg.nii.gz", labels_like(case), case.affine)
    (tmp_path / "synthetic").mkdir()
    nib.save(nib.load("amos/imagesVa/amos_0401.nii.gz"), "synthetic/amos_0401.nii.gz")
    page.smaller['ctsynth.preprocess("amos/", "out/")'] = 'ctsynth.preprocess("amos/", "out/", size=16)'
    page.run()
    printed = capsys.readouterr().out
    assert "(6, 16, 16) int16" in printed
    assert "labels are float64: give whole numbers" in printed
    assert page.namespace["page"].is_file()


@pytest.fixture
def demo(tmp_path):
    """What the notebook reads, smaller: a store of phantoms and a run."""
    root = tmp_path / "demo"
    make_phantom(root / "phantom", subjects=1, test_subjects=1, size=48, slices=10)
    ctsynth.preprocess(root / "phantom", root / "store", size=32, label_set="amos22+tissues")
    (subject,) = (root / "store" / "test").iterdir()
    fit(Store.open(root / "store"), root / "runs" / "ddpm-mask", iterations=2)
    subject.rename(subject.with_name("amos_0401"))
    return tmp_path


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg")
def test_every_cell_of_the_notebook_runs(demo):
    run = runpy.run_path(str(DOCS / "run_notebook.py"))["run"]
    content = run(DOCS / "python.ipynb", demo)
    for cell, published in zip(content["cells"], NOTEBOOK["cells"], strict=True):
        if cell["cell_type"] == "code":
            kinds = [[output["output_type"] for output in one["outputs"]] for one in (cell, published)]
            assert kinds[0] == kinds[1] != []
            assert published["execution_count"] == cell["execution_count"]
    (printed,) = (o for o in content["cells"][1]["outputs"] if o["output_type"] == "stream")
    assert any("uint8 and HU from -160" in line for line in printed["text"])


def test_the_notebook_is_small_and_of_the_form_that_jupyter_reads():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 4)
    assert (DOCS / "python.ipynb").stat().st_size < 500_000
    assert np.all([set(cell) >= {"cell_type", "metadata", "source"} for cell in NOTEBOOK["cells"]])
