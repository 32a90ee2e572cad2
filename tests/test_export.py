"""A model for others: it draws what the run draws, tells what it is, and nothing of this machine."""

import json
import shutil

import pytest
from small_runs import ctsynth, settings

from ctsynth.scoring.scores import Scores

FILES = {"README.md", "config.json", "export.json", "model.safetensors"}


@pytest.fixture
def folder(run_folder):
    return run_folder


def sampled(model, out):
    done = ctsynth(
        "sample", "--mask", "seg.nii.gz", "--model", model, "--steps", 2, "--device", "cpu", "--out", out
    )
    assert done.exit_code == 0, done.stderr


def test_a_moved_export_draws_what_its_run_draws(folder):
    done = ctsynth("export", "runs/one", "shared")
    assert (done.exit_code, done.stdout) == (0, "shared\n"), done.stderr
    assert {path.name for path in (folder / "shared").iterdir()} == FILES
    sampled("runs/one", "run.nii.gz")
    shutil.move("shared", "elsewhere")
    shutil.rmtree("runs")
    shutil.rmtree("out")
    sampled("elsewhere", "export.nii.gz")
    assert (folder / "run.nii.gz").read_bytes() == (folder / "export.nii.gz").read_bytes()
    records = [json.loads((folder / f"{name}.json").read_text()) for name in ("run", "export")]
    assert records[0]["weights_sha256"] == records[1]["weights_sha256"]


def test_no_path_of_this_machine_is_in_it(folder):
    ctsynth("export", "runs/one/checkpoints/step_000000004", "shared")
    for path in (folder / "shared").iterdir():
        assert str(folder).encode() not in path.read_bytes(), path.name
    assert "runs/one" not in (folder / "shared" / "README.md").read_text()


def card(folder):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    _, front, text = (folder / "shared" / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_card_says_what_is_known_and_what_is_to_fill_in(folder):
    done = ctsynth("sample", "--data", "out", "--steps", 2, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    done = ctsynth("score", "synthetic", "--data", "out", "--metrics", "psnr,ssim")
    assert done.exit_code == 0, done.stderr
    done = ctsynth("export", "runs/one", "shared", "--scores", "synthetic/scores.json")
    assert done.exit_code == 0, done.stderr
    assert "lines to fill in" in done.stderr
    front, text = card(folder)
    assert front["license"] == "unknown"
    assert front["library_name"] == "ctsynth"
    assert {"ctsynth", "diffusion"} <= set(front["tags"])
    (result,) = front["model-index"][0]["results"]
    psnr = Scores.load(folder / "synthetic" / "scores.json").metrics["psnr"].total.value
    assert {one["type"]: one["value"] for one in result["metrics"]}["psnr"] == pytest.approx(psnr)
    digest = json.loads((folder / "runs" / "one" / "config.json").read_text())["data"]["digest"]
    for words in (
        "## Intended use", "## Training data", "## Scores", "FILL IN", "Not for diagnosis", digest, "6 liver",
        "2 training subjects, 12 axial slices", "test: 1 subjects, SHA-256 of their names", "PSNR",
        "-160 to 240 HU",
    ):  # fmt: skip
        assert words in text


def test_scores_of_another_model_are_refused(folder):
    ctsynth("sample", "--data", "out", "--steps", 2, "--device", "cpu", "--raw")
    ctsynth("score", "synthetic", "--data", "out", "--metrics", "psnr")
    done = ctsynth("export", "runs/one", "shared", "--scores", "synthetic/scores.json")
    assert done.exit_code == 2
    assert "synthetic/scores.json: scores of ddpm-concat with weights" in done.stderr
    assert not (folder / "shared").exists()


def test_scores_that_are_not_there_are_refused_by_name(folder):
    done = ctsynth("export", "runs/one", "shared", "--scores", "nowhere.json")
    assert done.exit_code == 2
    assert "error: nowhere.json: no such file" in done.stderr
    assert not (folder / "shared").exists()


def test_a_card_that_was_filled_in_is_kept_and_nothing_of_the_user_is_lost(folder):
    ctsynth("export", "runs/one", "shared")
    readme = folder / "shared" / "README.md"
    filled = readme.read_text().replace("FILL IN", "us")
    readme.write_text(filled)
    again = ctsynth("export", "runs/one", "shared")
    assert again.exit_code == 0, again.stderr
    other = ctsynth("export", "runs/one/checkpoints/step_000000004", "shared", "--overwrite")
    assert other.exit_code == 2
    assert "shared/README.md: changed since it was exported" in other.stderr
    assert readme.read_text() == filled
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")
    done = ctsynth("export", "runs/one", "mine", "--overwrite")
    assert done.exit_code == 2
    assert "mine: not overwritten: it is not an export alone" in done.stderr


def test_another_checkpoint_wants_overwrite_and_a_damaged_export_is_made_again(folder):
    ctsynth("export", "runs/one", "shared")
    whole = (folder / "shared" / "model.safetensors").read_bytes()
    other = ctsynth("export", "runs/one/checkpoints/step_000000004", "shared")
    assert other.exit_code == 2
    assert "shared: an export of another checkpoint or with other scores" in other.stderr
    assert ctsynth("export", "runs/one/checkpoints/step_000000004", "shared", "--overwrite").exit_code == 0
    assert (folder / "shared" / "model.safetensors").read_bytes() != whole
    (folder / "shared" / "config.json").unlink()
    assert ctsynth("export", "runs/one/checkpoints/step_000000004", "shared").exit_code == 0
    assert {path.name for path in (folder / "shared").iterdir()} == FILES


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_export_is_refused(folder, name):
    ctsynth("export", "runs/one", "shared")
    path = folder / "shared" / name
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    done = ctsynth("sample", "--mask", "seg.nii.gz", "--model", "shared", "--device", "cpu")
    assert done.exit_code == 2
    assert f"shared/{name}" in done.stderr


def test_raw_weights_and_another_export_of_an_export_are_refused(folder):
    ctsynth("export", "runs/one", "shared")
    raw = ctsynth("sample", "--mask", "seg.nii.gz", "--model", "shared", "--raw", "--device", "cpu")
    assert raw.exit_code == 2
    assert "an exported model has its averaged weights alone" in raw.stderr
    again = ctsynth("export", "shared", "more")
    assert "shared: it is an export already" in again.stderr
    missing = ctsynth("export", "nowhere", "more")
    assert "nowhere: no such run or checkpoint" in missing.stderr
    assert not (folder / "more").exists()


def test_a_run_begins_from_an_export(folder):
    ctsynth("export", "runs/one", "shared")
    done = ctsynth("train", *settings(), "--from", "shared", "--iterations", 1, "--out", "runs/two")
    assert done.exit_code == 0, done.stderr
