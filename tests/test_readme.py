"""README is what a newcomer runs, and what the gate runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_quick_start_is_two_commands_that_set_themselves_up():
    section = README.split("## Quick start")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert [block.count("\n") for block in blocks] == [1, 1]
    demo, tests = (block.strip() for block in blocks)
    assert demo.endswith("ctsynth demo")
    assert tests.endswith("pytest")
    for line in (demo, tests):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert "-c constraints.txt" in line


def test_the_gate_runs_readmes_test_command():
    (pattern,) = re.findall(r"grep -E '([^']+)'", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert len([line for line in README.splitlines() if re.search(pattern, line)]) == 1


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
