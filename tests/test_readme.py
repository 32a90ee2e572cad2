"""README and docs say what is there: two commands that set themselves up, commands and options that exist."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from ctsynth.cli.app import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def quick_start():
    section = README.split("## Quick start\n")[1].split("\n## ")[0]
    return [block.rstrip("\n") for block in BLOCK.findall(section)]


def test_the_quick_start_holds_exactly_two_commands_of_one_line_each():
    assert len(quick_start()) == 2
    for command in quick_start():
        assert "\n" not in command
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_each_quick_start_command_sets_up_all_it_needs():
    for command in quick_start():
        steps = [shlex.split(step) for step in command.split(" && ")]
        assert steps[0] == ["python3", "-m", "venv", ".venv"]
        assert steps[1][:2] == [".venv/bin/pip", "install"]
        assert steps[1][steps[1].index("-c") + 1] == "constraints.txt"
        assert all(step[0].startswith(".venv/bin/") for step in steps[1:])


def test_the_first_is_the_demo_and_the_second_lint_types_and_tests():
    demo, tests = ([shlex.split(step) for step in command.split(" && ")] for command in quick_start())
    assert demo[-1] == [".venv/bin/ctsynth", "demo"]
    run = [" ".join(step).removeprefix(".venv/bin/") for step in tests[2:]]
    assert run[:-1] == ["ruff check .", "ruff format --check .", "mypy"]
    assert run[-1].startswith("python -m pytest")


def test_the_gate_runs_readmes_own_line():
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert "pip install" not in text  # one place says how to install
    pattern = re.search(r"grep -E '(.+?)'", text)
    assert re.findall(f"{pattern[1]}.*", README, re.MULTILINE) == quick_start()[1:]


def test_the_way_in_three_lines_is_shown():
    lines = [line for block in BLOCK.findall(README) for line in block.splitlines()]
    at = lines.index("ctsynth preprocess amos/ out/")
    assert lines[at + 1].startswith("ctsynth train --cond mask")
    assert lines[at + 2] == "ctsynth sample --mask seg.nii.gz"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_named_exist(page):
    group = typer.main.get_command(app)
    text = page.read_text(encoding="utf-8")
    for words in re.findall(r"(?:^|[\s`/])ctsynth ([a-z][^`\n>|&]*)", text):
        name, *rest = words.split(" -- ")[0].split()  # what follows is for another command
        if page.parent == ROOT and name not in group.commands:  # prose: "ctsynth and the paper"
            assert not rest or "--" not in words, words
            continue
        assert name in group.commands, words
        _, command, _ = group.resolve_command(group.make_context("ctsynth", [name]), [name])
        options = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        options |= {"--help", "-h", "[OPTIONS]"}
        assert {word for word in rest if word.startswith("--")} <= options, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_resolve(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_tests_that_are_named_exist(page):
    for file in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), file
