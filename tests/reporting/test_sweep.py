"""The page's section on samplers: scores of one checkpoint over evaluations and over seconds a slice."""

from dataclasses import replace

import pytest
from PIL import Image
from small_stores import make_store, write_synthetic

from ctsynth.reporting.page import build_report
from ctsynth.reporting.sweep import SECONDS, find_sweeps, sweep_figure, timing
from ctsynth.scoring.run import score
from ctsynth.scoring.scores import Value

POINTS = {("dpm++", 5): (20.0, 0.1), ("dpm++", 20): (23.0, 0.4), ("ddim", 50): (22.0, 1.0)}
"""PSNR and seconds a slice of each sampler and number of steps."""


@pytest.fixture
def swept(tmp_path, small_case):
    """Scores of one checkpoint with three samplers, last steps first."""
    store = make_store(tmp_path / "out", [small_case(0)])
    record = {"method": "ddpm-mask", "iterations": 100, "sampler": {"name": "dpm++", "steps": 1}, "seed": 0}
    samples = write_synthetic(tmp_path / "samples", store, record=record)
    found = score(samples, store, "test", metrics=["psnr"])
    (measured,) = (result for name, result in found.metrics.items() if name == "psnr")
    settings = {"device": "one CPU", "precision": "fp32", "batch_size": 4}
    made = []
    for (name, steps), (psnr, seconds) in reversed(POINTS.items()):
        provenance = found.provenance | {"sampler": {"name": name, "steps": steps}}
        metrics = {
            "psnr": replace(measured, total=Value(value=psnr, n=1, unit="dB")),
            SECONDS: timing(seconds, settings),
        }
        made.append(replace(found, provenance=provenance, metrics=metrics))
    return made


def lines_of(figure):
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines}


def test_a_line_a_sampler_and_a_point_a_number_of_steps(swept):
    (sweep,) = find_sweeps(swept)
    assert lines_of(sweep_figure(sweep, "evaluations")) == {
        "dpm++": [(5, 20.0), (20, 23.0)], "ddim": [(50, 22.0)]
    }  # fmt: skip
    assert lines_of(sweep_figure(sweep, "seconds")) == {
        "dpm++": [(0.1, 20.0), (0.4, 23.0)], "ddim": [(1.0, 22.0)]
    }  # fmt: skip


def test_scores_that_differ_in_more_than_sampler_and_steps_are_no_sweep(swept):
    assert find_sweeps(swept[:1]) == []
    of_other_seed = replace(swept[0], provenance=swept[0].provenance | {"seed": 1})
    assert find_sweeps([of_other_seed, swept[1]]) == []
    guided = swept[0].provenance["sampler"] | {"guidance": 2.0}
    assert find_sweeps([replace(swept[0], provenance=swept[0].provenance | {"sampler": guided}), swept[1]]) == []
    in_one_pass = replace(swept[0], provenance=swept[0].provenance | {"sampler": None})
    assert find_sweeps([in_one_pass, in_one_pass]) == []


def save_all(folder, scores):
    for number, one in enumerate(scores):
        (folder / str(number)).mkdir(parents=True)
        one.save(folder / str(number) / "scores.json")
    return folder


@pytest.mark.parametrize("is_timed", [True, False])
def test_the_page_shows_a_sweep_over_evaluations_and_over_measured_seconds(tmp_path, swept, is_timed):
    if not is_timed:
        swept = [replace(one, metrics={"psnr": one.metrics["psnr"]}) for one in swept]
    page = build_report([save_all(tmp_path / "sweep", swept)], tmp_path / "report").read_text()
    assert page.index("<h2>Scores") < page.index("<h2>Samplers") < page.index("<h2>Beside the paper")
    assert "Mask-guided DDPM, 100 iterations: one evaluation a step" in page
    assert ("measured on one CPU, fp32, 4 slices at once" in page) is is_timed
    with Image.open(tmp_path / "report" / "sweep-mask-guided-ddpm-100-iterations.png") as plot:
        assert plot.width > 500


def test_a_page_without_a_sweep_has_no_such_section(tmp_path, swept):
    page = build_report([save_all(tmp_path / "one", swept[:1])], tmp_path / "report").read_text()
    assert "<h2>Samplers" not in page
