import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from ctsynth import figures
from ctsynth.labels import AMOS22


def test_every_class_has_its_own_color_and_background_is_black():
    ids = np.arange(17, dtype=np.uint8).reshape(1, 17)
    colored = figures.colorize(ids, AMOS22)[0]
    assert colored[0].tolist() == [0, 0, 0]
    assert "#" + bytes(colored[6]).hex() == AMOS22.colors[6]
    assert len({tuple(color) for color in colored.tolist()}) == 17


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("body", "beige"),
        ("spleen", "xkcd:green"),
        ("liver", "darkred"),
        ("kidney_right", "xkcd:blue"),
        ("kidney_left", "yellow"),
        ("stomach", "indigo"),
        ("aorta", "peru"),  # light brown
        ("duodenum", "xkcd:light purple"),
        ("pancreas", "gray"),
        ("adrenal_gland_right", "darkgreen"),
        ("adrenal_gland_left", "lightgreen"),
        ("inferior_vena_cava", "turquoise"),  # aqua blue green
        ("urinary_bladder", "tan"),  # shallow brown
        ("prostate", "purple"),
    ],
)
def test_the_organs_of_amos22_have_the_colors_of_the_papers_figures_3_and_4(name, color):
    (number,) = [number for number, organ in AMOS22.names.items() if organ == name]
    assert AMOS22.colors[number] == to_hex(color)


def test_gray_spans_black_to_white_and_clips():
    assert figures.gray(np.array([[-0.5, 0.0, 0.5, 1.0, 2.0]]))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_difference_is_black_where_equal_and_full_from_100_hu_on():
    real = np.full((1, 5), 0.5)
    hu = np.array([[0, 100, 200, -100, 50]])
    colors = figures.difference(real, real + hu / 400, 400)[0].astype(int)
    assert colors[0].tolist() == [0, 0, 0]
    assert colors[1].tolist() == colors[2].tolist() != colors[3].tolist()
    assert colors[1, 0] > colors[1, 2]  # denser is orange
    assert colors[3, 2] > colors[3, 0]  # less dense is blue
    assert colors[4] == pytest.approx(colors[1] / 2, abs=1)


@pytest.mark.parametrize(("side", "cell"), [(32, 128), (64, 128), (100, 200), (256, 256)])
def test_a_sheet_shows_every_pixel_as_a_square_in_cells_of_at_least_128_pixels(side, cell):
    white = np.full((side, side, 3), 255, np.uint8)
    sheet = figures.sheet([[white, white]] * 3, headers=("mask", "real"))
    bright = (np.asarray(sheet) == 255).all(axis=2)
    assert bright.sum() == pytest.approx(6 * cell * cell, rel=0.01)


def test_title_and_caption_take_lines_of_their_own():
    cell = [[np.zeros((64, 64, 3), np.uint8)]]
    plain = figures.sheet(cell, headers=("mask",))
    told = figures.sheet(cell, headers=("mask",), title="step 10", caption="a long caption " * 12)
    assert told.width == plain.width
    assert told.height > plain.height + 3 * 15


def test_the_running_mean_keeps_a_constant_and_halves_no_end():
    assert figures.smooth([2.0] * 100) == pytest.approx(np.full(100, 2.0))
    assert figures.smooth([3.0, 1.0]) == pytest.approx([3, 1])
    assert len(figures.smooth([])) == 0


def test_losses_are_drawn_and_rates_are_not():
    row = {
        "step": 1,
        "epoch": 0.1,
        "vb": 1,
        "mse": 1,
        "loss": 2,
        "lr": 1,
        "images_per_s": 3,
        "generator_grad_norm": 1,
    }
    assert figures.loss_terms([row]) == ["loss", "mse", "vb"]


@pytest.mark.parametrize(
    "rows", [[], [{"step": 1, "loss": 0.5}], [{"step": n, "loss": 2.0**-n} for n in range(50)]]
)
def test_a_loss_curve_is_a_complete_picture_for_any_number_of_rows(rows, tmp_path):
    figures.loss_curve(rows, tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.width > 600
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


def test_figures_and_report_do_not_import_torch():
    modules = "ctsynth.figures, ctsynth.reporting.page, ctsynth.metrics.ssim"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_long_headers_are_wrapped_and_do_not_run_into_one_another():
    cell = np.zeros((64, 64, 3), np.uint8)
    short = figures.sheet([(cell, cell)], headers=("mask", "real"), scale=2)
    long = figures.sheet([(cell, cell)], headers=("mask", "ddpm-mask from tissues (phantoms)"), scale=2)
    assert long.width == short.width
    assert long.height > short.height
    left = np.asarray(long)[: long.height - 128, : 4 + 128 - 8]  # the column of the short header
    rows = np.flatnonzero((left != left[0, 0]).any(axis=(1, 2)))
    assert len(rows) < 20  # one line of text: nothing of the other's
