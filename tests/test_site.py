"""The documentation's site is built strictly, and nothing on it is fetched from elsewhere."""

import logging
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="mkdocs comes with the extra dev")

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).parents[1]


def build_site(root, site):
    build(load_config(str(root / "mkdocs.yml"), site_dir=str(site)))
    return sorted(site.rglob("*.html"))


@pytest.fixture(autouse=True)
def only_to_caplog(monkeypatch):
    monkeypatch.setattr(logging.getLogger("mkdocs"), "propagate", True)


def test_the_site_is_whole_and_fetches_nothing(tmp_path):
    pages = build_site(ROOT, tmp_path / "site")
    assert {page.stem for page in pages} >= {"index", "readme", "python.ipynb", "cli", "CHANGELOG"}
    fetched = re.compile(r"<(script|img|iframe)[^>]*src=.?(https?:)?//|<link[^>]*href=.?(https?:)?//")
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []
    assert sum(file.stat().st_size for file in (tmp_path / "site").rglob("*")) < 20e6


def test_what_leads_nowhere_stops_the_build(tmp_path, caplog):
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), ROOT / "mkdocs.yml", ROOT / "LICENSE", ROOT / "CITATION.cff"):
        shutil.copy(file, tmp_path)
    nav = (tmp_path / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(f"{nav}  - Gone: gone.md\n", encoding="utf-8")
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as index:
        index.write("\n[a](nowhere.md) [b](metrics.md#nowhere) [c](/metrics.md) ![d](pictures/nowhere.png)\n")
    (tmp_path / "docs" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    with pytest.raises(Abort):
        build_site(tmp_path, tmp_path / "site")
    said = caplog.text
    for trouble in ("nowhere.md", "metrics.md#nowhere", "/metrics.md", "nowhere.png", "gone.md", "forgotten.md"):
        assert trouble in said, trouble
