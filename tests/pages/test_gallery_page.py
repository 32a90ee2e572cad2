"""The gallery's picture of two others is what its command makes of them."""

import numpy as np
from page_blocks import ROOT, runs
from PIL import Image

NAMES = ("first", "real_ct", "phantom_planes")


@runs("docs/gallery.md", "Axial and coronal")
def test_the_first_picture_has_a_row_of_each(page, tmp_path):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    page.run()
    kept = {name: np.asarray(Image.open(ROOT / "docs" / "pictures" / f"{name}.png")) for name in NAMES}
    np.testing.assert_array_equal(Image.open(tmp_path / "first.png"), kept["first"])
    rows = [part for name in NAMES[1:] for part in (kept[name][:24], kept[name][284:544])]
    np.testing.assert_array_equal(kept["first"], np.concatenate(rows))
