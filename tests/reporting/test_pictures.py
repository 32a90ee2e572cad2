import re

import numpy as np
import pytest
from small_stores import write_synthetic
from test_page import edited_scores

from ctsynth.data.store import Store
from ctsynth.reporting.figures import picture_grid
from ctsynth.reporting.page import build_report
from ctsynth.reporting.table import Table
from ctsynth.scoring.run import score


def shown_pictures(page):
    """What each picture of a slice shows, in words."""
    return re.findall(r'alt="([^"]+: subject_\d+, slice [^"]+)"', page)


def test_no_picture_is_on_the_page_twice(folder):
    store = Store.open(folder / "out")
    for number, method in enumerate(("ddpm-mask", "ddpm-edge", "ddpm-edge")):
        record = {"method": method, "iterations": 100 * (number + 1), "sampler": {"name": "ddim", "steps": 9}}
        samples = write_synthetic(folder / "study" / str(number), store, record=record)
        score(samples, store, "test", metrics=["psnr"]).save(samples / "scores.json")
    for inputs in ([folder / "samples"], [folder / "study"]):
        page = build_report(inputs, folder / inputs[0].name / "report").read_text()
        assert shown_pictures(page)
        assert len(shown_pictures(page)) == len(set(shown_pictures(page)))
        assert 'alt="newest sample sheet"' not in page
        real = re.findall(r'src="([^"]+)" alt="real: ', page)
        assert len(real) == len(set(real)) == 4  # two slices of each of two subjects


def test_a_reason_that_metrics_share_is_shown_once(folder):
    def change(content):
        content["left_out"] = dict.fromkeys(("fid", "coverage"), "weights.pth is in none of /a, /b; get them: x")

    text = " ".join(edited_scores(folder, change).text)
    left_out = text[text.rindex("Left out") :]
    assert "fid, coverage: weights.pth is not on this machine" in left_out
    assert text.count("weights.pth") == 1


@pytest.mark.parametrize("metrics", [["psnr"], ["gradient"]])
def test_the_papers_tables_are_folded_where_no_row_of_ours_has_a_number(metrics, folder):
    samples = folder / "samples"
    score(samples, Store.open(folder / "out"), "test", metrics=metrics).save(
        samples / "scores.json", overwrite=True
    )
    page = build_report([samples], folder / "report").read_text()
    found = re.findall(r"<details( open)?><summary>Table (\d)\.", page)
    assert found == [(" open" if metrics == ["psnr"] else "", number) for number in "12"]


def test_a_table_of_many_systems_is_turned_and_split_and_keeps_its_best():
    table = Table(
        ("system", "PSNR", "SSIM"), tuple((f"s{n}", f"{n}", f"-{n}") for n in range(5)), frozenset({(4, 1)})
    )
    one, other = table.turned("metric").blocks(3)
    assert one.headers == ("metric", "s0", "s1", "s2")
    assert other.headers == ("metric", "s3", "s4")
    assert other.rows == (("PSNR", "3", "4"), ("SSIM", "-3", "-4"))
    assert (one.best, other.best) == (frozenset(), {(0, 2)})


def test_six_slices_of_nine_columns_stay_below_3_mb():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 1), np.uint8).repeat(3, 2)  # compresses least
    row = ("x", [noise] * 9, "x")
    assert len(picture_grid(["x"] * 9, [row] * 6)) < 3e6
