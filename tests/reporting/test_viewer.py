import base64
import gzip
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from test_page import read
from typer.testing import CliRunner

from ctsynth.cli.app import app
from ctsynth.data.slices import unstack
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.errors import UsageError
from ctsynth.reporting.page import build_report
from ctsynth.reporting.viewer import packed, packed_hu

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="no node to run the page's script with")


def unpacked(text):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8)


def unpacked_hu(text):
    low, high = unpacked(text).astype(np.int64).reshape(2, -1)
    folded = low + 256 * high
    return np.cumsum(np.where(folded % 2, -(folded + 1) // 2, folded // 2)).astype(np.int16)


def held(page, name):
    """What a script element of the page holds."""
    (content,) = re.findall(rf'<script type="[^"]+" id="{name}">([^<]*)</script>', page)
    return content


@pytest.fixture
def page(folder):
    build_report([folder / "samples"], folder / "report", viewer=True)
    return (folder / "report" / "viewer.html").read_text()


def test_the_page_holds_the_hu_of_both_volumes_and_the_mask(page, folder):
    volume = json.loads(held(page, "volume"))
    subject = Store.open(folder / "out").subjects_by_name["subject_0"]
    synthetic = unstack(Volume.load(folder / "samples" / "subject_0.nii.gz").voxels)
    assert volume["shape"] == list(synthetic.shape)
    assert np.array_equal(unpacked_hu(held(page, "synthetic")).reshape(volume["shape"]), synthetic)
    assert np.array_equal(unpacked_hu(held(page, "real")).reshape(volume["shape"]), subject.ct())
    assert np.array_equal(unpacked(held(page, "mask")).reshape(volume["shape"]), subject.mask())


def test_the_page_has_the_millimeters_the_window_and_the_classes(page, folder):
    volume = json.loads(held(page, "volume"))
    stacked = Volume.load(folder / "samples" / "subject_0.nii.gz").geometry
    assert volume["spacing"] == pytest.approx([stacked.spacing[axis] for axis in (2, 1, 0)])
    assert (volume["level"], volume["width"]) == (40, 400)
    assert volume["names"]["6"] == "liver"
    assert re.findall(r'data-plane="(\w+)"', page) == ["coronal", "axial", "sagittal"]


def test_the_page_loads_nothing_and_the_report_points_to_it(page, folder):
    assert not re.search(r"(?i)[a-z]+://|@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    assert read(folder / "report" / "viewer.html").loads == ["data:,"]
    assert "viewer.html" in read(folder / "report" / "index.html").loads
    build_report([folder / "samples"], folder / "other")
    assert "viewer.html" not in read(folder / "other" / "index.html").loads


def test_every_int16_comes_back():
    extremes = np.array([-32768, 32767, 0, -1024, 3071, 32767, -32768], np.int16)
    assert np.array_equal(unpacked_hu(packed_hu(extremes)), extremes)


@needs_node
def test_the_script_reads_what_was_packed(page, tmp_path):
    script = page.split("<script>")[1].split("</script>")[0]
    extremes = np.array([-32768, 32767, 0, -1024, 3071, 32767, -32768], np.int16)
    call = f'unpackedHU("{packed_hu(extremes)}").then((hu) => console.log(JSON.stringify([...hu])));'
    (tmp_path / "page.js").write_text(script + call)
    done = subprocess.run(["node", tmp_path / "page.js"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == extremes.tolist()


def test_a_volume_of_256_x_256_x_100_takes_less_than_10_mb():
    shape = (10, 256, 256)  # a tenth of it
    y, x = np.ogrid[-1:1:256j, -1:1:256j]
    rng = np.random.default_rng(0)
    body = np.where(x**2 + 1.8 * y**2 < 0.9, rng.normal(50, 15, shape), -160)  # half air, CT's noise
    hu = np.clip(body, -160, 240).round().astype(np.int16)
    mask = np.zeros(shape, np.uint8)
    assert 10 * (2 * len(packed_hu(hu)) + len(packed(mask))) < 10e6


def test_text_from_outside_is_escaped(folder):
    path = folder / "samples" / "scores.json"
    odd = "</script><script>alert(1)</script>"
    content = json.loads(path.read_text())
    content["name"] = content["provenance"]["method"] = odd
    path.write_text(json.dumps(content))
    build_report([folder / "samples"], folder / "report", viewer=True)
    assert odd not in (folder / "report" / "viewer.html").read_text()


def test_without_scores_there_is_no_viewer(folder):
    with pytest.raises(UsageError, match="nothing here has been scored"):
        build_report([folder / "runs" / "mask"], folder / "report", viewer=True)
    assert not (folder / "report" / "index.html").exists()
    path = folder / "samples" / "scores.json"
    content = json.loads(path.read_text())
    content["sources"]["synthetic"] = {}
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="nothing here has been scored"):
        build_report([folder / "samples"], folder / "report", viewer=True)


def test_the_command_writes_it(folder):
    done = CliRunner().invoke(app, ["report", str(folder / "samples"), "--out", str(folder / "out_"), "--viewer"])
    assert done.exit_code == 0, done.output
    assert (folder / "out_" / "viewer.html").is_file()
