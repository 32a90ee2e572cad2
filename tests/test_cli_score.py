import csv
import io
import json
import runpy

import pytest
from measured_metrics import DOCS, PLUGIN
from small_runs import ctsynth, fit
from small_stores import both_splits, make_store, write_synthetic
from typer.testing import CliRunner

from ctsynth.cli.app import app


@pytest.fixture
def folder(tmp_path, small_case, monkeypatch):
    store = make_store(tmp_path / "out", [small_case(seed) for seed in range(2)])
    write_synthetic(tmp_path / "samples", store, record={"method": "ddpm-mask"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_stdout_is_the_table_and_nothing_else(folder):
    done = run("score", "samples")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["metric", "value", "95", "%", "interval", "mean", "over"]
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "PSNR (dB)",
        "PSNR in body (dB)",
        "SSIM",
        "SSIM in body",
        "Gradient ratio",
        "Organ HU error (HU)",
        "Organ HU W1 (HU)",
        "Organ HU spread",
        "z-gradient",
        "z-gradient in a label",
        "z-gradient across labels",
    ]
    assert max(map(len, lines)) <= 80
    for name in ("fid", "dice"):
        assert f"{name} is left out: " in done.stderr
    assert (folder / "samples" / "scores.json").is_file()


def test_json_is_one_object_with_the_content_of_the_file(folder):
    done = run("-q", "score", "samples", "--json", "--out", "elsewhere/scores.json")
    content = json.loads(done.stdout)
    written = json.loads((folder / "elsewhere" / "scores.json").read_text())
    assert content["metrics"] == written["metrics"]
    assert done.stderr == ""


def test_csv_has_every_value_and_markdown_and_latex_the_table(folder):
    rows = list(csv.DictReader(io.StringIO(run("score", "samples", "--format", "csv").stdout)))
    assert [row["metric"] for row in rows if not row["organ"]] == [
        "psnr", "psnr_body", "ssim", "ssim_body", "gradient", "hu", "hu_w1", "hu_spread",
        "z-gradient", "z-gradient_same", "z-gradient_changed",
    ]  # fmt: skip
    assert {row["organ"] for row in rows if row["metric"] == "hu"} == {"", "spleen", "liver", "body"}
    assert float(rows[0]["low"]) <= float(rows[0]["value"]) <= float(rows[0]["high"])
    assert run("score", "samples", "--format", "markdown").stdout.startswith("| metric | value |")
    latex = run("score", "samples", "--format", "latex").stdout
    assert latex.startswith(r"\begin{tabular}{lrrr}")
    assert r"95 \% interval" in latex


def test_chosen_metrics_alone(folder):
    done = run("score", "samples", "--metrics", "ssim, hu")
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[2:]] == [
        "SSIM", "SSIM in body", "Organ HU error (HU)", "Organ HU W1 (HU)", "Organ HU spread"
    ]  # fmt: skip
    assert "left out" not in done.stderr


def test_one_file_is_scored_beside_itself(folder):
    done = run("score", "samples/subject_1.nii.gz")
    assert "one subject" in done.stdout
    assert (folder / "samples" / "subject_1_scores.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["samples", "--data", "nowhere"], "nowhere: no slice store here"),
        (["samples", "--split", "train"], "no train subjects"),
        (["samples", "--metrics", "nmi"], "no metric is called 'nmi'"),
        (["samples", "--metrics", "fid"], "no metric to compute: fid: "),
        (["samples", "--split", "val"], "val"),
    ],
)
def test_invalid_arguments_exit_with_2_and_a_message(folder, words, message):
    done = run("score", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.rglob("*scores.json"))


def test_a_missing_volume_exits_with_2_unless_partial(folder):
    (folder / "samples" / "subject_0.nii.gz").unlink()
    done = run("score", "samples")
    assert done.exit_code == 2
    assert "no volume of subject_0 (1 of 2 test subjects)" in done.stderr
    assert run("score", "samples", "--partial").exit_code == 0


def test_a_user_metric_is_in_the_table_the_file_and_the_page(folder, monkeypatch):
    (folder / "own" / "metrics").mkdir(parents=True)
    (folder / "own" / "metrics" / "mae.py").write_text(PLUGIN)
    monkeypatch.setenv("CTSYNTH_PLUGINS", str(folder / "own"))
    done = run("score", "samples")
    assert "MAE in body" in done.stdout
    assert "mae" in json.loads((folder / "samples" / "scores.json").read_text())["metrics"]
    assert "mae,," in run("score", "samples", "--format", "csv").stdout
    assert "MAE in body" in run("score", "samples", "--format", "latex").stdout
    assert "mae" in json.loads(run("info", "--size", "8", "--json").stdout)["metrics"]
    monkeypatch.delenv("CTSYNTH_PLUGINS")  # the page needs the scores, not the metric
    page = run("report", "samples", "--out", "page")
    assert page.stdout == "page/index.html\n"
    assert "MAE in body" in (folder / "page" / "index.html").read_text()
    assert "mae" in (folder / "page" / "scores.csv").read_text()


def test_a_user_metric_is_on_the_page_of_metrics(folder, monkeypatch):
    (folder / "metrics").mkdir()
    (folder / "metrics" / "mae.py").write_text(PLUGIN)
    monkeypatch.setenv("CTSYNTH_PLUGINS", str(folder))
    page = runpy.run_path(str(DOCS / "reference" / "make_cli.py"))["render_metrics"]()
    assert (
        "| `mae` | MAE in body | HU | lower | Mean absolute error inside the body; the mean over slices. |" in page
    )


def test_a_report_on_nothing_exits_with_2(folder):
    done = run("report", "nowhere")
    assert done.exit_code == 2
    assert "nowhere: no such file or folder" in done.stderr
    (folder / "empty").mkdir()
    assert "neither a training run nor scored" in run("report", "empty").stderr
    volume = run("report", "samples/subject_0.nii.gz").stderr
    assert "subject_0.nii.gz: neither a training run nor scored" in volume


def test_the_checkpoints_of_a_run_are_the_rows_of_its_iteration_study(tmp_path, small_case):
    store = both_splits(tmp_path / "out", small_case)
    run = fit(store, tmp_path / "run", keep_every=2)
    words = ["--data", store.root, "--metrics", "psnr", "--device", "cpu"]
    share = ctsynth("score", run, "--checkpoint", "all", *words, "--shard", "1/2")
    assert share.stdout.splitlines() == [f"step {step}: 1 subject measured, 0 kept" for step in (2, 4, 6)]
    assert not list((run / "scored").glob("*/scores.json"))
    done = ctsynth("score", run, "--checkpoint", "all", *words)
    assert done.exit_code == 0, done.stderr
    assert [done.stdout.count(f"step {step}") for step in (2, 4, 6)] == [1, 1, 1]
    scored = sorted((run / "scored").glob("*/scores.json"))
    assert [json.loads(path.read_text())["provenance"]["iterations"] for path in scored] == [2, 4, 6]
    again = json.loads(ctsynth("score", run, "--checkpoint", "4", *words, "--json").stdout)
    assert again["step 4"]["metrics"]["psnr"] == json.loads(scored[1].read_text())["metrics"]["psnr"]
    refused = ctsynth("score", run, "--checkpoint", "5", "--data", store.root)
    assert refused.exit_code == 2
    assert "there are: 2, 4, 6" in refused.stderr


def test_a_volume_is_not_overwritten_and_nothing_is_measured(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for out in ("samples/subject_0.nii.gz", "out/manifest.json", "out/test/subject_1/ct.npy", "samples", "."):
        done = run("score", "samples", "--out", out, "--overwrite")
        assert done.exit_code == 2
        assert f"{out}: not overwritten: it is not a file of scores" in done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_fewer_scores_do_not_take_the_place_of_more(folder):
    assert run("score", "samples").exit_code == 0
    refused = run("score", "samples", "--metrics", "psnr")
    assert refused.exit_code == 2
    assert "samples/scores.json: holds ssim, which would be lost" in refused.stderr
    assert run("score", "samples", "--metrics", "psnr", "--out", "psnr.json").exit_code == 0
    assert run("score", "samples", "--metrics", "psnr", "--overwrite").exit_code == 0
    assert run("score", "samples").exit_code == 0
