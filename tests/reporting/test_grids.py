import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_comparison import PAPER, entry

from ctsynth import figures
from ctsynth.errors import DataError
from ctsynth.labels import AMOS22
from ctsynth.reporting.figures import LARGEST, Row, data_uri
from ctsynth.reporting.grids import NOT_SCORED, iteration_grid, method_grid

PLACES = (("one", 3, {1}), ("one", 9, {1, 6, 8}), ("two", 3, {1, 6}))


def shade(value):
    return np.full((8, 8, 3), value, np.uint8)


def system(method, iterations, value, store="a", places=PLACES):
    """An entry, and rows in which mask is 1, real 2, synthetic the value, difference 4."""
    one = entry(method, iterations)
    one = replace(one, scores=replace(one.scores, settings={"size": 8, "store_digest": store}))
    cells = (shade(1), shade(2), shade(value), shade(4))
    return one, [Row(subject, index, 12, cells, frozenset(classes)) for subject, index, classes in places]


def grids_of(build, *systems):
    return build([one for one, _ in systems], {one.name: rows for one, rows in systems}, PAPER)


def values(grid):
    return [[int(cell[0, 0, 0]) for cell in row] for row in grid.cells]


def test_figure_4_is_mask_each_method_real_in_the_papers_order():
    grid = grids_of(
        method_grid,
        system("sdm", 9, 50),
        system("ddpm-mask", 9, 60),
        system("pix2pix", 9, 70),
        system("sdm", 3, 80),
    )
    assert grid.headers == ("mask", "Pix2Pix", "SDM", "Mask-guided DDPM", "real")
    assert values(grid) == [[1, 70, 50, 60, 2]] * 3
    assert grid.names == ("one, slice 4 of 12", "one, slice 10 of 12", "two, slice 4 of 12")


def test_figure_3_is_mask_iterations_real_of_the_slice_with_the_most_classes():
    grid = grids_of(
        iteration_grid,
        system("ddpm-mask", 20, 60),
        system("ddpm-concat", 1000, 80),
        system("ddpm-concat", 20, 70),
        system("ddpm-mask", 500, 90),
        system("oasis", 20, 100),
    )
    assert grid.headers == ("mask", "20", "500", "1,000", "real")
    assert grid.names == ("Conditional DDPM: one, slice 10 of 12", "Mask-guided DDPM: one, slice 10 of 12")
    assert values(grid) == [[1, 70, NOT_SCORED, 80, 2], [1, 60, 90, NOT_SCORED, 2]]


def test_without_a_second_checkpoint_there_is_no_figure_3():
    assert grids_of(iteration_grid, system("ddpm-mask", 20, 60), system("sdm", 40, 60)) is None


def test_only_slices_that_all_have_stand_side_by_side():
    grid = grids_of(method_grid, system("sdm", 9, 50), system("spade", 9, 60, places=PLACES[1:]))
    assert len(grid.cells) == 2
    assert (
        grids_of(method_grid, system("sdm", 9, 50, places=PLACES[:1]), system("spade", 9, 60, places=PLACES[1:]))
        is None
    )


def test_systems_of_another_store_or_without_pictures_are_left_out():
    one, _ = system("oasis", 9, 0)
    others = system("sdm", 9, 50), system("spade", 9, 60), system("pix2pix", 9, 70, store="b")
    entries = [one, *(e for e, _ in others)]
    grid = method_grid(entries, {one.name: DataError("gone"), **{e.name: rows for e, rows in others}}, PAPER)
    assert grid.headers == ("mask", "SPADE", "SDM", "real")


def test_the_sheet_has_a_line_for_the_name_of_each_row():
    cells = [[shade(255)] * 3] * 2
    plain = figures.sheet(cells, headers=("a", "b", "c"))
    named = figures.sheet(cells, headers=("a", "b", "c"), names=("first", "second"))
    assert named.width == plain.width
    assert (named.height - plain.height) % 2 == 0
    assert 30 <= named.height - plain.height <= 60
    white = [(np.asarray(sheet) == 255).all(axis=2).sum() for sheet in (plain, named)]
    assert white[1] == pytest.approx(white[0], rel=0.02)


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


@pytest.mark.parametrize("side", [64, 512])
def test_a_picture_on_the_page_is_no_larger_than_a_screen_shows(side):
    ids = np.tile(np.arange(17, dtype=np.uint8).repeat(31)[:side] % 17, (side, 1))
    picture = opened(data_uri(figures.colorize(ids, AMOS22)))
    assert picture.width == min(side, LARGEST)
    colors = {color for _, color in picture.convert("RGB").getcolors()}
    assert colors <= {tuple(bytes.fromhex(c[1:])) for c in AMOS22.colors.values()} | {(0, 0, 0)}


def test_gray_is_stored_as_gray_without_change():
    pixels = figures.gray(np.linspace(0, 1, 64).reshape(8, 8))
    picture = opened(data_uri(pixels))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), pixels[..., 0])
