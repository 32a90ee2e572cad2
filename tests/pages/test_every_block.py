"""One law for README and docs: a code block runs in a test, or says why it does not."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from page_blocks import COMMAND, FENCE, LANGUAGES, PAGES, RUN, blocks

for file in Path(__file__).parent.glob("test_*.py"):
    if file != Path(__file__):
        import_module(file.stem)

GENERATED = {"cli.md"}
"""Shows the examples of ``--help``, indented; that their commands and options exist is tested on all pages."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_runs_or_says_why_not(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.page}, {block.section}: a block of {block.language!r}"
        if block.runs:
            assert {(block.page, "*"), (block.page, block.section)} & RUN, (
                f"{block.page}, {block.section}: not run"
            )
        if block.language in ("json", "toml"):
            assert block.file or block.not_run, f"{block.page}, {block.section}: no comment says what reads it"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: page.name
)
def test_no_command_hides_outside_of_blocks(page):
    text = page.read_text(encoding="utf-8")
    shown = [block.text for block in blocks(page) if block.language == "text"]
    shown += [line.strip() for line in FENCE.sub("", text).splitlines() if line.startswith("    ")]
    for part in shown:
        assert not any(COMMAND.match(line) for line in part.splitlines()), part


def test_each_comment_stands_right_before_its_block():
    marked = [block for page in PAGES for block in blocks(page) if block.not_run or block.file]
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert len(marked) == len(re.findall(r"^<!-- (?:not run|file)\b", text, re.MULTILINE))
