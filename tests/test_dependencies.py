"""docs/dependencies.md names what pyproject.toml asks for, and nothing else."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_is_on_the_page_and_no_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(package for packages in extras.values() for package in packages)]
    wanted = {re.match(r"[\w-]+", package)[0].lower() for package in asked} - {"ctsynth"}
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    named = set()
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) > 2 and cells[-1] not in ("license", "---"):
            named |= {name.strip().lower() for name in cells[-3].split(",")}
    assert named == wanted
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(extras) - {"dicom"}
