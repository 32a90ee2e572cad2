import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from small_stores import make_store, write_synthetic

from ctsynth import figures
from ctsynth.data.store import Store
from ctsynth.errors import UsageError
from ctsynth.reporting.page import build_report
from ctsynth.scoring.run import score

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags nest; collects attributes that load something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.ids, self.headings, self.text = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.loads += [v for k, v in attributes if k in ("src", "href", "srcset", "xlink:href", "data", "action")]
        self.ids += [v for k, v in attributes if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read_csv(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_begins_with_pictures_and_shows_scores_paper_training_and_settings(folder):
    page = read(build_report([folder / "samples"], folder / "report"))
    assert page.headings[0] == "Pictures"
    assert {"Scores", "Beside the paper", "Training", "Settings and versions"} < set(page.headings)
    assert len(page.headings) == len(set(page.headings))
    text = " ".join(page.text)
    for words in (
        "not for diagnosis",
        "PSNR in body",
        "liver",
        "fid: ",
        "floor: ",
        "-100 HU",
        "ddpm-mask",
        "numpy",
        "Table 1.",
        "93.5",
        "Table 2.",
        "93.9",
        "Mask-guided DDPM",
    ):
        assert words in text


def test_the_page_loads_nothing_from_anywhere(folder):
    page = read(build_report([folder / "samples"], folder / "report"))
    assert page.loads
    assert all(place.startswith(("data:", "#")) for place in page.loads)
    content = (folder / "report" / "index.html").read_text()
    assert not re.search(r"@import|url\((?!#)|<script|<iframe|<object", content)
    tags = " ".join(
        re.findall(r"<[^>]*>", content)
    )  # in texts an address, of missing weights for one, loads nothing
    assert set(re.findall(r"https?://[^\s\"'<]+", tags)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    }  # fmt: skip


def test_tables_and_figures_lie_beside_the_page(folder):
    build_report([folder / "samples" / "scores.json"], folder / "report")
    names = {path.name for path in (folder / "report").iterdir()}
    assert names == {
        "index.html", "scores.csv", "scores.md", "scores.tex", "slices-ddpm-mask.png", "loss-ddpm-mask.png",
        "table-1.csv", "table-1.md", "table-1.tex", "table-2.csv", "table-2.md", "table-2.tex", "figure-4.png",
        "report.json",
    }  # fmt: skip
    with Image.open(folder / "report" / "slices-ddpm-mask.png") as sheet:
        assert sheet.width >= 4 * 128


def test_the_same_inputs_give_the_same_page(folder):
    one = build_report([folder / "samples"], folder / "one").read_bytes()
    assert build_report([folder / "samples"], folder / "other").read_bytes() == one


def test_the_pictures_are_those_of_the_store(folder):
    page = build_report([folder / "samples"], folder / "report").read_text()
    store = Store.open(folder / "out")
    mask = store.subjects("test")[0].mask()
    shown = int(re.search(r'alt="mask: subject_0, slice (\d+) of', page)[1]) - 1
    from ctsynth.reporting.figures import data_uri

    assert data_uri(figures.colorize(np.asarray(mask[shown]), store.labels)) in page


@pytest.mark.parametrize("gone", ["out", "samples/subject_0.nii.gz"])
def test_the_report_keeps_its_numbers_when_the_volumes_are_gone(folder, gone):
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = read(build_report([folder / "samples"], folder / "report"))
    text = " ".join(page.text)
    assert "No pictures: " in text
    assert "PSNR in body" in text


def test_a_store_made_again_since_gives_no_pictures(folder, small_case):
    make_store(folder / "out", [small_case(seed) for seed in (7, 8)])
    text = " ".join(read(build_report([folder / "samples"], folder / "report")).text)
    assert "the store has changed since it was scored against" in text


def test_a_run_without_scores_shows_its_training_and_says_so(folder):
    page = read(build_report([folder / "runs" / "mask"], folder / "report"))
    of_scores = read(build_report([folder / "samples"], folder / "scored")).headings
    assert "Training" in page.headings
    assert set(page.headings) < set(of_scores)
    text = " ".join(page.text)
    assert "Nothing here has been scored yet" in text
    assert "Step 100, loss 0.01, 9 images/s" in text
    assert not (folder / "report" / "scores.csv").exists()


def test_a_run_that_is_also_that_of_the_scores_is_shown_once(folder):
    build_report([folder / "samples", folder / "runs" / "mask"], folder / "report")
    assert [path.name for path in (folder / "report").glob("loss-*")] == ["loss-ddpm-mask.png"]


def test_several_systems_stand_in_one_table_with_the_best_in_bold(folder):
    store = Store.open(folder / "out")
    perfect = folder / "perfect"
    write_synthetic(perfect, store, record={"method": "oasis"})
    from ctsynth.data.slices import stack, stacked_geometry
    from ctsynth.data.volume import Volume

    for subject in store.subjects("test"):
        voxels = stack(np.asarray(subject.ct()))
        Volume(voxels, stacked_geometry(subject.geometry, store.size)).save(perfect / f"{subject.name}.nii.gz")
    score(perfect, store, "test").save(perfect / "scores.json")
    shutil.copytree(perfect, folder / "again")
    build_report([folder / "samples", perfect, folder / "again", perfect / "scores.json"], folder / "report")
    table = (folder / "report" / "scores.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:]] == ["ddpm-mask", "oasis (1)", "oasis (2)"]
    assert "**1.000 [1.000 to 1.000]**" in table[3]
    assert "**" in table[2]  # an infinite PSNR is no number, so the other's is the best there is
    csv = (folder / "report" / "scores.csv").read_text()
    assert "oasis (1),psnr,,,,,0,slices,dB" in csv
    page = read(folder / "report" / "index.html")
    assert len(page.ids) == len(set(page.ids))


def test_a_folder_of_checkpoints_is_the_study_of_iterations(folder):
    store = Store.open(folder / "out")
    for method in ("ddpm-mask", "ddpm-edge"):
        for iterations in (1000, 50, 200):
            record = {"method": method, "iterations": iterations, "sampler": {"name": "ddim", "steps": 9}}
            record["model"] = str(folder / "runs" / "mask" / "checkpoints" / f"step_{iterations}")
            samples = write_synthetic(folder / "study" / method / f"step_{iterations}", store, record=record)
            score(samples, store, "test").save(samples / "scores.json")
    build_report([folder / "study"], folder / "report")
    names = {path.name for path in (folder / "report").iterdir()}
    assert {"figure-3.png", "figure-4.png"} <= names
    assert {name for name in names if name.startswith("loss-")} == {"loss-ddpm-edge.png"}  # one run, drawn once
    table = read_csv(folder / "report" / "table-1.csv")
    assert [(row["method"], row["iterations"]) for row in table if row["source"] == "ctsynth"] == [
        (title, iterations)
        for iterations in ("50", "200", "1000")
        for title in ("Mask-guided DDPM", "Edge-guided DDPM")
    ]
    last = read_csv(folder / "report" / "table-2.csv")
    assert {row["iterations"] for row in last if row["source"] == "ctsynth"} == {"1000"}
    page = read(folder / "report" / "index.html")
    assert "Figure 3. Mask, slices drawn after more and more iterations, real" in page.text
    assert len(page.ids) == len(set(page.ids))


def test_a_page_on_phantoms_says_phantoms_at_its_top_and_in_every_table(folder):
    path = folder / "samples" / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"phantom": True}))
    page = build_report([path], folder / "report").read_text()
    (warning,) = re.findall(r'<p class="warning">.*?</p>', page, re.DOTALL)
    assert "Scored on phantoms, not on CT of patients: these numbers compare to nothing published." in warning
    for file in ("scores.csv", "scores.md", "scores.tex", "table-1.csv", "table-2.md", "table-2.tex"):
        assert "phantoms" in (folder / "report" / file).read_text()
    table = read_csv(folder / "report" / "table-2.csv")
    assert [row["source"] for row in table if row["source"] != "paper"] == ["ctsynth, phantoms"]


def test_the_papers_tables_lie_whole_beside_the_page(folder):
    build_report([folder / "samples"], folder / "report")
    for number, rows in ((1, 9), (2, 7)):
        table = read_csv(folder / "report" / f"table-{number}.csv")
        printed = [list(row.values())[4:] for row in table if row["source"] == "paper"]
        assert (len(printed), sum(bool(value) for row in printed for value in row)) == (rows, rows * 17)


def test_text_from_outside_is_escaped(folder):
    path = folder / "samples" / "scores.json"
    path.write_text(path.read_text().replace('"name": "ddpm-mask"', '"name": "<script>alert(1)</script>"'))
    page = build_report([path], folder / "report")
    assert "<script" not in page.read_text()
    read(page)


def test_a_report_on_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nothing to report on"):
        build_report([], tmp_path)


def edited_scores(folder, change):
    file = folder / "samples" / "scores.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return read(build_report([folder / "samples"], folder / "report"))


def test_scores_of_a_subject_that_the_store_has_not_are_shown_without_pictures(folder):
    page = edited_scores(folder, lambda content: content["sources"].update(synthetic={"stranger": "x.nii.gz"}))
    assert "No pictures: " in " ".join(page.text)
    assert "there is no subject 'stranger', which was scored" in " ".join(page.text)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()], ids=repr)
def test_scores_whose_volumes_cannot_be_read_are_shown_without_pictures(error, folder, monkeypatch):
    def broken(*_):
        raise error

    monkeypatch.setattr("ctsynth.reporting.figures.read_pair", broken)
    page = read(build_report([folder / "samples"], folder / "report"))
    assert re.search(r"No pictures: the volumes: (Input/output error|not enough memory)", " ".join(page.text))
    assert "PSNR in body" in " ".join(page.text)


def test_names_are_no_formulas(folder):
    odd = r"$\frac{ 5$ & <b>"

    def change(content):
        psnr = content["metrics"]["psnr"]
        psnr["total"]["unit"] = "%"
        psnr["title"] = odd
        psnr["per_organ"] = {odd: psnr["total"] | {"value": 50.0}}
        content["labels"]["classes"][0]["name"] = odd
        content["provenance"]["method"] = content["name"] = odd

    rows = [{"step": n, "loss": 0.5, odd: 0.25} for n in range(1, 9)]
    run = folder / "runs" / "mask"
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = " ".join(edited_scores(folder, change).text)
    assert text.count("frac{ 5$ & <b>") >= 5
