from dataclasses import replace

import numpy as np
import pytest
from small_stores import make_store, write_synthetic

from ctsynth.reporting.curves import curve_figure
from ctsynth.reporting.page import build_report
from ctsynth.scoring.result import Curve
from ctsynth.scoring.run import score
from ctsynth.scoring.scores import Scores

CURVE = Curve(x=[15.0, 30.0, None], x_title="mm", lines={"real": [0.5, 0.3, None], "synthetic": [0.2, None, 0.1]})


def labels_of(figure):
    lines = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    return [(line.get_label(), np.asarray(line.get_xdata()).tolist()) for line in lines]


def test_a_real_curve_that_systems_share_is_drawn_once_and_gaps_are_left_out():
    other = replace(CURVE, lines=CURVE.lines | {"synthetic": [0.1, 0.1, 0.1]})
    assert labels_of(curve_figure({"a": CURVE, "b": other})) == [
        ("real", [15.0, 30.0]), ("a", [15.0]), ("b", [15.0, 30.0])
    ]  # fmt: skip
    apart = replace(CURVE, lines=CURVE.lines | {"real": [0.9, 0.8, 0.7]})
    assert [label for label, _ in labels_of(curve_figure({"a": CURVE, "b": apart}))] == [
        "real",
        "a",
        "real, b",
        "b",
    ]


@pytest.mark.parametrize("has_curve", [True, False])
def test_the_page_shows_curves_where_there_are_any_and_scores_json_keeps_them(tmp_path, small_case, has_curve):
    store = make_store(tmp_path / "out", [small_case(seed) for seed in range(2)])
    samples = write_synthetic(tmp_path / "samples", store, record={"method": "ddpm-mask"})
    found = score(samples, store, "test", metrics=["psnr"])
    curve = CURVE if has_curve else None
    psnr = replace(found.metrics["psnr"], curve=curve)
    replace(found, metrics={"psnr": psnr}).save(samples / "scores.json")
    assert Scores.load(samples / "scores.json").metrics["psnr"].curve == curve
    page = build_report([samples], tmp_path / "report").read_text()
    assert (">Curves<" in page) is has_curve
