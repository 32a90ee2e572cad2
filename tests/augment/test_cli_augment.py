"""``ctsynth augment`` as a user has it."""

import json

import pytest
from small_runs import ctsynth

from ctsynth.training import dryrun

TINY = ("--preset", "tiny", "--method", "ddpm-concat", "--device", "cpu", "--iterations", 2, "--seeds", 1)


@pytest.fixture(autouse=True)
def short_trials(monkeypatch):
    """The forecast of a plan times one step instead of ten."""
    monkeypatch.setattr(dryrun, "MOST_STEPS", 1)


def augment(store, out, *words):
    """The command on a store, with networks of seconds."""
    return ctsynth("augment", store.root, "--out", out, *TINY, *words)


def test_a_dry_run_prints_the_plan_and_writes_nothing(study_store, tmp_path):
    done = augment(study_store, tmp_path / "augment", "--dry-run", "--arms", "R,R+D,R+R", "--fractions", "0.5,1")
    assert done.exit_code == 0
    assert "50 % (2), 100 % (4)" in done.stdout
    assert "R, R+D, R+D x2, R+D x4, R+R'" in done.stdout
    assert "R+R' at 100 %: it takes 3 further subjects, and there are 0" in done.stdout
    assert "19 segmenters; cells (fractions x draws): 4, seeds: 1" in done.stdout
    assert "about " in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_plan_as_json(study_store, tmp_path):
    done = augment(study_store, tmp_path / "augment", "--dry-run", "--json", "--arms", "R+C", "--fractions", "1")
    plan = json.loads(done.stdout)
    assert plan["runs"] == ["fraction-1/draw-0/R/seed-0", "fraction-1/draw-0/R+C/seed-0"]
    assert plan["generators"] == 0
    assert plan["hours"]["total"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arms", "R,Q"], "--arms: no arm is called 'Q'"),
        (["--fractions", "0"], "--fractions: 0, wanted above 0 and at most 1"),
        (["--fractions", "1.01"], "--fractions: 1.01, wanted above 0 and at most 1"),
        (["--fractions", "half"], "--fractions half: wanted numbers, separated by commas"),
        (["--fractions", "0.5", "--draws", "7"], "can be drawn in 6 ways only"),
        (["--doses", "1,0"], "`doses[1]` is 0, wanted a whole number within [1, 100]"),
        (["--doses", "1,1"], "wanted one or more different numbers"),
        (["--method", "unet2d"], "unet2d"),
        (["--shard", "3/2"], "--shard 3/2: wanted I/N with I from 1 to N"),
    ],
)
def test_bad_options_are_errors_and_write_nothing(study_store, tmp_path, words, message):
    done = augment(study_store, tmp_path / "augment", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_shards_make_the_runs_and_a_last_call_the_results(study_store, tmp_path):
    words = ("--arms", "R,R+C", "--fractions", "0.5,1", "--draws", 1)
    for shard in ("1/2", "2/2"):
        done = augment(study_store, tmp_path / "augment", *words, "--shard", shard)
        assert (done.exit_code, done.stdout) == (0, "")
    done = augment(study_store, tmp_path / "augment", *words)
    assert done.exit_code == 0
    assert "4 of 4 segmenters are done" in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 130
    first, *rows = done.stdout.splitlines()
    assert first.split()[:4] == ["real", "arm", "Dice", "gain"]
    assert [row.split()[:2] for row in rows[1:5]] == [["2", "R"], ["2", "R+C"], ["4", "R"], ["4", "R+C"]]
    content = json.loads((tmp_path / "augment" / "augment.json").read_text())
    assert [row["arm"] for row in content["rows"]] == ["R", "R+C", "R", "R+C"]
    assert (tmp_path / "augment" / "report" / "index.html").is_file()


def test_the_arms_as_data_sets_of_nnunet(study_store, tmp_path):
    words = ("--arms", "R,R+C,R+Dr", "--fractions", "1", "--doses", "1", "--export", "nnunet", tmp_path / "nnunet")
    done = augment(study_store, tmp_path / "augment", *words)
    assert done.exit_code == 0
    folders = [
        tmp_path / "nnunet" / "nnUNet_raw" / name for name in ("Dataset101_R_x1_f1_d0", "Dataset102_R+Dr_x1_f1_d0")
    ]
    assert done.stdout.split() == [str(folder) for folder in folders]
    real, deformed = ({path.name for path in folder.glob("imagesTr/*.nii.gz")} for folder in folders)
    assert real == {f"amos_{number:04}_0000.nii.gz" for number in range(4)}
    assert len(deformed - real) == 3
    splits = (tmp_path / "nnunet" / "nnUNet_preprocessed").glob("*/splits_final.json")
    assert len({tuple(json.loads(path.read_text())[0]["val"]) for path in splits}) == 1
    assert not list((tmp_path / "augment").rglob("result.json"))
