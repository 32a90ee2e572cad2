import base64
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from small_stores import make_store, write_synthetic
from typer.testing import CliRunner

from ctsynth import figures
from ctsynth.cli.app import app
from ctsynth.errors import DataError, UsageError
from ctsynth.reporting.blind import read_marks, wilson
from ctsynth.reporting.page import build_report
from ctsynth.scoring.pairs import read_pair
from ctsynth.scoring.run import score


@pytest.fixture
def folder(tmp_path, small_case):
    """Two systems' volumes of three subjects, scored, and a blind reading of 12 slices."""
    store = make_store(tmp_path / "out", [small_case(seed) for seed in range(3)])
    for name in ("one", "two"):
        samples = write_synthetic(tmp_path / "samples" / name, store, record={"method": name})
        score(samples, store, "test", metrics=["psnr"]).save(samples / "scores.json")
    build_report([tmp_path / "samples"], tmp_path / "report", blind=12)
    return tmp_path


def answers(folder):
    return json.loads((folder / "report" / "blind-answers.json").read_text())


def write_marks(folder, marks, reading=None):
    content = {"schema": 1, "reading": reading or answers(folder)["reading"], "marks": marks}
    (folder / "marks.json").write_text(json.dumps(content))
    return folder / "marks.json"


def read(folder, marks):
    return read_marks(write_marks(folder, marks), folder / "report" / "blind-answers.json")


def truths(folder):
    return {str(n): one["truth"] for n, one in enumerate(answers(folder)["pictures"], start=1)}


def test_half_of_the_slices_are_real_the_others_are_shared_by_the_systems_and_none_is_there_twice(folder):
    pictures = answers(folder)["pictures"]
    assert [one["truth"] for one in pictures].count("real") == 6
    systems = [one["system"] for one in pictures if one["truth"] == "synthetic"]
    assert sorted(systems) == ["one"] * 3 + ["two"] * 3
    assert len({(one["subject"], one["slice"]) for one in pictures}) == 12
    assert [one["truth"] for one in pictures] != ["synthetic", "real"] * 6  # in no order


def test_each_picture_is_the_slice_that_the_answers_name_and_the_page_does_not_say_which(folder):
    from ctsynth.data.store import Store

    page = (folder / "report" / "blind.html").read_text()
    found = re.findall(r'src="data:image/png;base64,([^"]+)" alt="slice (\d+)"', page)
    assert [int(number) for _, number in found] == list(range(1, 13))
    store = Store.open(folder / "out")
    for (content, _), one in zip(found, answers(folder)["pictures"], strict=True):
        path = folder / "samples" / one["system"] / f"{one['subject']}.nii.gz"
        pair = read_pair(store.subjects_by_name[one["subject"]], path, store)
        values = pair.real if one["truth"] == "real" else pair.synthetic
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert np.array_equal(np.asarray(picture), figures.gray(values[one["slice"] - 1])[..., 0])
        assert not picture.info
    assert "subject_" not in page
    assert not re.search(r"https?://", page)


def test_the_same_command_gives_the_same_page_and_another_number_another(folder):
    before = (folder / "report" / "blind.html").read_bytes()
    build_report([folder / "samples"], folder / "report", blind=12)
    assert (folder / "report" / "blind.html").read_bytes() == before
    build_report([folder / "samples"], folder / "other", blind=10)
    assert (folder / "other" / "blind.html").read_bytes() != before


def test_a_reader_who_knows_has_100_percent_and_one_who_is_always_wrong_0(folder):
    right = truths(folder)
    wrong = {number: "real" if mark == "synthetic" else "synthetic" for number, mark in right.items()}
    known, mistaken = read(folder, right), read(folder, wrong)
    assert (known.right, known.marked, known.by_system) == (12, 12, {"one": (3, 3), "two": (3, 3)})
    assert (mistaken.right, mistaken.by_system) == (0, {"one": (0, 3), "two": (0, 3)})
    assert known.lines()[0] == "100 % [76 to 100 %] right of 12 pictures; 50 % is guessing"


def test_pictures_that_are_not_marked_are_left_out_and_counted(folder):
    right = truths(folder)
    found = read(folder, {number: right[number] for number in ("1", "5", "9")} | {"99": "real"})
    assert (found.right, found.marked) == (3, 3)
    assert found.lines()[1] == "9 of 12 pictures are not marked: left out"


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(20, 40, 0.352, 0.648), (0, 10, 0, 0.278), (81, 263, 0.255, 0.366)]
)
def test_the_interval_is_wilsons(right, count, low, high):  # 81 of 263: Newcombe 1998, Table I
    assert wilson(right, count) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


def test_marks_of_another_page_of_another_form_or_none_are_refused(folder):
    path = folder / "report" / "blind-answers.json"
    with pytest.raises(UsageError, match="marks of reading abc"):
        read_marks(write_marks(folder, {"1": "real"}, reading="abc"), path)
    with pytest.raises(DataError, match=r"marks\.1 is 'maybe'"):
        read_marks(write_marks(folder, {"1": "maybe"}), path)
    with pytest.raises(UsageError, match="no picture of this page is marked"):
        read_marks(write_marks(folder, {}), path)
    with pytest.raises(DataError, match="no such file"):
        read_marks(folder / "nowhere.json", path)


def test_more_slices_than_there_are_and_nothing_scored_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="there are only 18 to show") as error:
        build_report([folder / "samples"], folder / "other", blind=40)
    assert error.value.hint == "ask for 18 and fewer"
    assert not (folder / "other" / "blind.html").exists()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UsageError, match="nothing here has been scored"):
        build_report([tmp_path / "run"], folder / "other", blind=4)


def test_the_command_writes_the_page_and_reads_marks(folder):
    out = str(folder / "again")
    done = CliRunner().invoke(app, ["report", str(folder / "samples"), "--out", out, "--blind", "8"])
    assert done.exit_code == 0, done.output
    reading = json.loads((folder / "again" / "blind-answers.json").read_text())["reading"]
    marks = write_marks(folder, {"1": "real", "2": "synthetic"}, reading)
    done = CliRunner().invoke(app, ["report", "--out", out, "--marks", str(marks)])
    assert "right of 2 pictures; 50 % is guessing" in done.stdout
    both = CliRunner().invoke(app, ["report", str(folder / "samples"), "--marks", str(marks)])
    assert both.exit_code == 2
    assert "makes no report" in both.stderr


@pytest.mark.skipif(not shutil.which("node"), reason="no node to run the page's script with")
def test_the_pages_script_is_javascript(folder):
    page = (folder / "report" / "blind.html").read_text()
    script = page.split("<script>")[1].split("</script>")[0]
    (folder / "page.js").write_text(script)
    subprocess.run(["node", "--check", folder / "page.js"], check=True)
