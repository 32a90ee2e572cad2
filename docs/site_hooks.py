"""What mkdocs.yml adds to MkDocs: pages from outside docs/, links to them, and the notebook as a page.

Links are written for readers of the files, relative to the file; on the site they lead to the same files.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = ("*.md", "CITATION.cff", "LICENSE", "examples/**/*.py")
LINK = re.compile(r"(\]\(|src=\")(?!https?:|mailto:|data:|[/#])([^)#\"\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies beside docs/, and the notebooks as Markdown."""
    beside = {path for pattern in OUTSIDE for path in ROOT.glob(pattern) if "__pycache__" not in path.parts}
    for path in sorted(beside):
        files.append(File.generated(config, _on_site(path), abs_src_path=str(path)))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        content = as_markdown(json.loads(file.content_string))
        files.append(File.generated(config, f"{file.src_uri}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Points each relative link to its target's place on the site."""
    source = Path(page.file.abs_src_path or ROOT / "docs" / page.file.src_uri)
    here = Path(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / match[2]))
        return match[1] + Path(os.path.relpath(_on_site(target), here)).as_posix()

    return LINK.sub(moved, markdown)


def as_markdown(notebook: dict[str, Any]) -> str:
    """The cells of a notebook with their outputs."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text'])}```")
            elif picture := output.get("data", {}).get("image/png"):
                parts.append(f"![output of the cell above](data:image/png;base64,{picture})")
    return "\n\n".join(parts) + "\n"


def _on_site(path: Path) -> str:
    """A file's place on the site: docs/ is its root, and README.md at the top is not the site's index."""
    place = Path(os.path.relpath(path, ROOT / "docs" if path.is_relative_to(ROOT / "docs") else ROOT)).as_posix()
    return "readme.md" if place == "README.md" else f"{place}.md" if place.endswith(".ipynb") else place
