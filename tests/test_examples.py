"""The scripts of examples/, and that the gallery's commands are ones that they and ctsynth take."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from small_stores import make_store, write_synthetic

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(name, *words, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.fixture
def case(tmp_path):
    """A case in AMOS22's layout with a CT of numbers that tell their slice."""
    for kind, dtype in (("imagesTr", np.int16), ("labelsTr", np.uint8)):
        (tmp_path / "src" / kind).mkdir(parents=True)
        values = np.broadcast_to(np.arange(10), (4, 5, 10)).astype(dtype)
        affine = np.diag([-2.0, 3.0, 5.0, 1.0]) @ [[1, 0, 0, 7], [0, 1, 0, 8], [0, 0, 1, 9], [0, 0, 0, 1]]
        nib.save(nib.Nifti1Image(values, affine), tmp_path / "src" / kind / "one.nii.gz")
    (tmp_path / "src" / "dataset.json").write_text("{}")
    return tmp_path / "src"


def test_each_slice_is_in_one_slab_and_stays_where_it_is(tmp_path, case, monkeypatch):
    run("hold_out_slices.py", case, tmp_path / "out", "--held", "one:6:8", "one:0:2", monkeypatch=monkeypatch)
    whole = nib.load(case / "imagesTr" / "one.nii.gz")
    seen = {}
    for path in sorted((tmp_path / "out").glob("images*/*.nii.gz")):
        slab = nib.load(path)
        for index, number in enumerate(np.asanyarray(slab.dataobj)[0, 0]):
            place = slab.affine @ [1, 2, index, 1]
            assert place == pytest.approx(whole.affine @ [1, 2, number, 1])
            assert int(number) not in seen
            seen[int(number)] = path.parent.name
    assert {number for number, folder in seen.items() if folder == "imagesVa"} == {0, 1, 6, 7}
    assert sorted(seen) == list(range(10))
    labels = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("labels*/*")}
    assert labels == {"labelsVa/one_held00.nii.gz", "labelsVa/one_held06.nii.gz"} | {
        "labelsTr/one_part02.nii.gz", "labelsTr/one_part08.nii.gz"
    }  # fmt: skip


def test_a_picture_shows_mask_drawn_and_real_of_the_same_plane(tmp_path, small_case, monkeypatch):
    store = make_store(tmp_path / "store", [small_case()])
    drawn = write_synthetic(tmp_path / "drawn", store)
    words = ("--drawn", drawn, "--rows", "subject_0:axial:1", "subject_0:coronal:16", "subject_0:sagittal:16")
    run("make_pictures.py", tmp_path / "store", tmp_path / "picture.png", *words, monkeypatch=monkeypatch)
    with Image.open(tmp_path / "picture.png") as image:
        pixels = np.asarray(image).astype(int)
    cell = 128
    first, second, third = (slice(start, start + cell) for start in (4, 8 + cell, 12 + 2 * cell))
    assert (
        0 < np.abs(pixels[40:, second] - pixels[40:, third]).mean() < 8
    )  # the drawn volume is the real one with noise of 10 HU
    assert pixels[40:, first].max() > 0


def test_the_gallery_names_what_there_is():
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\((\S+)\)", page)
    for picture in pictures:
        with Image.open(ROOT / "docs" / picture) as image:
            assert image.width >= 780
    made = re.findall(r"(?:make_pictures.py \S+ |stack_pictures.py |--screenshot=)(\S+\.png)", page)
    assert [f"pictures/{name}" for name in made] == pictures
    for line in re.findall(r"^python (?:../../)?(examples.*)$", page, re.MULTILINE):
        script, *words = shlex.split(line)
        source = (ROOT / script).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in words if word.startswith("--"))
