"""Rows of pictures by ``make_pictures.py`` below one another, each under its own headers.

    python examples/stack_pictures.py OUT.png PICTURE.png:ROW [PICTURE.png:ROW ...]

ROW counts from 0. The pictures are of slices of one size.
"""

from __future__ import annotations

import argparse

from PIL import Image

GAP = 4
"""Below each row, pixels; the ground is the first pixel's color."""


def main() -> None:
    """Writes the chosen rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("rows", nargs="+", metavar="PICTURE:ROW")
    asked = parser.parse_args()
    parts = [part for row in asked.rows for part in _headers_and_row(*row.rsplit(":", 1))]
    sheet = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), parts[0].getpixel((0, 0)))
    above = 0
    for part in parts:
        sheet.paste(part, (0, above))
        above += part.height
    sheet.save(asked.out, optimize=True)


def _headers_and_row(path: str, row: str) -> tuple[Image.Image, Image.Image]:
    """Both with the gap below; a row is a third as high as the picture is wide."""
    picture = Image.open(path)
    height = (picture.width - GAP) // 3
    top = (picture.height - GAP) % height
    above = top + int(row) * height
    return picture.crop((0, 0, picture.width, top)), picture.crop((0, above, picture.width, above + height))


if __name__ == "__main__":
    main()
