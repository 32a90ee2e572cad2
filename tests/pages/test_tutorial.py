"""The tutorial's commands, which are the demo's, on fewer and smaller phantoms."""

from page_blocks import runs
from PIL import Image


@runs("docs/tutorial.md")
def test_the_tutorial_from_phantoms_to_a_picture_of_ones_own_mask(page, tmp_path):
    page.small["phantom"] = ["--subjects", 1, "--test-subjects", 2, "--size", 48, "--slices", 10]
    page.smaller |= {"amos_0401:axial:14": "amos_0401:axial:4", "amos_0401:coronal:32": "amos_0401:coronal:8"}
    page.run()
    for name in ("drawn.png", "my_mask.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 400
    assert (tmp_path / "my_mask_with_body.nii.gz").is_file()
    assert (tmp_path / "tour" / "report" / "viewer.html").is_file()
