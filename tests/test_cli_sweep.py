"""``score --sweep``: one checkpoint by several samplers, with the time that each takes."""

import json

import pytest
from PIL import Image
from small_cases import make_small_case
from small_runs import ctsynth, fit
from small_stores import both_splits

from ctsynth.cli._sweep import STEPS
from ctsynth.data.store import Store
from ctsynth.methods.base import find_method


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    store = both_splits(root / "out", make_small_case)
    fit(store, root / "run")
    return root


def sweep(root, *words, out="swept"):
    data = ["--data", root / "out", "--metrics", "psnr", "--device", "cpu", "--out", root / out]
    return ctsynth("score", root / "run", *data, *words)


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_sampler_with_each_number_of_steps_is_a_row_and_the_command_continues(root):
    words = ["--sweep", "sampler=dpm++,ddim", "--steps", "2,3"]
    done = sweep(root, *words)
    assert done.exit_code == 0, done.stderr
    rows = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert [row for row in rows if row[-1:].isdigit()] == ["dpm++ 2", "dpm++ 3", "ddim 2", "ddim 3"]
    folder = root / "swept" / "step_000000006"
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/scores.json"))}
    assert {
        name: (one["provenance"]["sampler"]["name"], one["provenance"]["sampler"]["steps"])
        for name, one in found.items()
    } == {"dpm++_2": ("dpm++", 2), "dpm++_3": ("dpm++", 3), "ddim_2": ("ddim", 2), "ddim_3": ("ddim", 3)}
    assert all(one["metrics"]["seconds_per_slice"]["total"]["value"] > 0 for one in found.values())
    with Image.open(folder / "sweep.png") as picture:
        assert picture.width > 500

    before = contents(folder)
    lost = folder / "ddim_2" / "subject_t.nii.gz"
    lost.unlink()
    (folder / "dpm++_3" / "scores.json").unlink()
    again = sweep(root, *words)
    assert again.exit_code == 0, again.stderr
    after = contents(folder)
    assert after[lost] == before[lost]
    measured_again = {"scores.json", "sweep.png"}  # the time of one was lost with its scores
    assert {path.name for path in before if after[path] != before[path]} <= measured_again
    assert after[folder / "ddim_2" / "scores.json"] == before[folder / "ddim_2" / "scores.json"]


def test_shares_draw_and_measure_and_the_command_without_puts_them_together(root):
    words = ["--sweep", "sampler=ddim", "--steps", "2"]
    share = sweep(root, *words, "--shard", "1/2", out="shares")
    assert share.stdout == "ddim 2: 1 subject measured, 0 kept\n"
    assert not list((root / "shares").rglob("scores.json"))
    assert "ddim 2" in json.loads(sweep(root, *words, "--json", out="shares").stdout)


def test_the_page_distinguishes_the_rows_of_a_sweep(root):
    assert sweep(root, "--sweep", "sampler=ddim", "--steps", "1,2", out="page").exit_code == 0
    done = ctsynth("report", root / "page", "--out", root / "report")
    assert done.exit_code == 0, done.stderr
    table = (root / "report" / "scores.md").read_text()
    assert "| ddpm-concat, ddim 1 |" in table
    assert "| ddpm-concat, ddim 2 |" in table
    assert "Time a slice (s)" in table
    page = (root / "report" / "index.html").read_text()
    assert page.index("one evaluation a step") < page.index("slices at once")  # plots over evaluations and seconds


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sweep", "dpm++"], "--sweep dpm++: wanted sampler=NAME,..."),
        (["--sweep", "sampler=heun"], "ddpm-concat does not take the sampler 'heun'"),
        (["--sweep", "sampler=ddim", "--steps", "2,x"], "--steps 2,x: wanted whole numbers"),
        (["--sweep", "sampler=ddim", "--steps", "2,2000"], "--steps 2000 is more than the 1000"),
        (["--sweep", "sampler=ddim", "--checkpoint", "all"], "--sweep goes with neither --checkpoint nor"),
        (["--sweep", "sampler=ddim", "--preset", "paper"], "--sweep goes with neither --checkpoint nor"),
        (["--steps", "2"], "--steps goes with --sweep"),
    ],
)
def test_invalid_arguments_exit_with_2_before_anything_is_drawn(root, words, message):
    done = sweep(root, *words, out="refused")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (root / "refused").exists()


def test_a_users_picture_is_not_overwritten(root):
    picture = root / "own" / "step_000000006" / "sweep.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(picture)
    done = sweep(root, "--sweep", "sampler=ddim", "--steps", "2", out="own")
    assert done.exit_code == 2
    assert "sweep.png: not overwritten: it is not the plot of a sweep" in done.stderr
    assert list(picture.parent.iterdir()) == [picture]


def test_a_model_that_draws_in_one_pass_has_nothing_to_sweep(root, tmp_path):
    store = both_splits(tmp_path / "out", make_small_case, size=32)
    run = fit(store, tmp_path / "run", "spade")
    done = ctsynth("score", run, "--data", store.root, "--sweep", "sampler=all", "--device", "cpu")
    assert done.exit_code == 2
    assert "spade draws in one pass: there is nothing to sweep" in done.stderr


def test_a_model_that_draws_volumes_is_swept_over_its_own_samplers(root, tmp_path):
    run = fit(Store.open(root / "out"), tmp_path / "run", "edm-volume")
    words = [
        "--data",
        root / "out",
        "--metrics",
        "psnr",
        "--device",
        "cpu",
        "--sweep",
        "sampler=all",
        "--steps",
        "2",
    ]
    done = ctsynth("score", run, *words, "--json")
    assert done.exit_code == 0, done.stderr
    assert list(json.loads(done.stdout)) == [f"{name} 2" for name in find_method("edm-volume").samplers]
    assert (run / "sweep" / "step_000000006" / "sweep.png").is_file()


def test_the_default_is_the_papers_last_question():
    assert STEPS == {"dpm++": (5, 10, 20, 50), "ddim": (50, 250), "ddpm": (250, 1000)}
