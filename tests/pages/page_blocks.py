"""The code blocks of README and docs, and how a test runs them: in the order of the page, in one folder.

A block of sh or python runs, unless a comment before it says why not:

    <!-- not run: it needs a GPU -->

A block of another language that a command reads is written to a file first:

    <!-- file: lesions.json -->
"""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import small_runs

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LANGUAGES = {"sh", "python", "json", "toml", "text"}
"""Text is what a program shows, or a drawing; the others are code."""

FENCE = re.compile(
    r"^(?:<!-- (?P<marker>not run|file): (?P<words>[^\n]+?) -->\n+)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)

COMMAND = re.compile(r"(ctsynth|python3?|pip|mkdocs|sbatch|srun|scontrol|apptainer|export) |\.venv/bin/|\$ ")
"""How a line begins that someone would copy into a shell."""

SMALL = {
    "preprocess": ["--size", 16, "--workers", 1],
    "sample": ["--steps", 2, "--device", "cpu"],
    "train-segmenter": ["--iterations", 2, "--batch-size", 4, "--preset", "tiny", "--device", "cpu"],
}
"""What is added to a command, so that it takes a second."""


@dataclass(frozen=True)
class Block:
    """A fenced block: the page's name, the heading above, its language, its text, and what its comment says."""

    page: str
    section: str
    language: str
    text: str
    not_run: str
    file: str

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and not self.not_run and not self.file


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text, found = path.read_text(encoding="utf-8"), []
    for match in FENCE.finditer(text):
        headings = HEADING.findall(text[: match.start()])
        marked = {match["marker"]: match["words"]}
        section = headings[-1] if headings else ""
        not_run, file = marked.get("not run", ""), marked.get("file", "")
        name = path.relative_to(ROOT).as_posix()
        found.append(Block(name, section, match["language"], match["text"], not_run, file))
    return found


RUN: set[tuple[str, str]] = set()
"""Page and section of each block that a test runs; a section of "*" is the whole page."""


def runs(page: str, section: str = "*") -> Callable:
    """Marks a test as the one that runs the blocks of a page, or of one of its sections, by ``Blocks.run``."""
    RUN.add((page, section))

    def mark(test: Callable) -> Callable:
        test.blocks = (page, section)
        return test

    return mark


@dataclass
class Blocks:
    """The blocks that one test runs, in the current folder.

    Args:
        page: Their page.
        section: Their section; "*" for all.
        setenv: Sets a variable of the environment until the test ends.
        small: Words that are added to each command of a name.
        smaller: Words of the page that the test replaces, to take less time or no GPU.
        namespace: What python blocks share.
        printed: What each command wrote to stdout.
        done: Whether they were run to the end.
    """

    page: str
    section: str
    setenv: Callable[[str, str], None]
    small: dict[str, list] = field(default_factory=lambda: dict(SMALL))
    smaller: dict[str, str] = field(default_factory=dict)
    namespace: dict[str, object] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)
    done: bool = False

    def run(self) -> None:
        """Writes the files and runs the commands and the python, from top to bottom."""
        for block in blocks(ROOT / self.page):
            if self.section not in ("*", block.section):
                continue
            text = block.text
            for words, others in self.smaller.items():
                text = text.replace(words, others)
            if block.file:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(text, encoding="utf-8")
            elif block.runs and block.language == "python":
                exec(compile(text, self.page, "exec"), self.namespace)
            elif block.runs:
                for line in text.replace("\\\n", " ").splitlines():
                    self._run_line(line)
        self.done = True

    def _run_line(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if words[:1] == ["ctsynth"]:
            target = words[words.index(">") + 1] if ">" in words else None
            words = words[1 : words.index(">")] if target else words[1:]
            words = [
                path for word in words for path in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
            ]
            done = small_runs.ctsynth(*words, *self._smaller(words))
            assert done.exit_code == 0, (line, done.stderr)
            self.printed[line] = done.stdout
            if target:
                Path(target).write_text(done.stdout, encoding="utf-8")
        elif words[:1] == ["export"]:
            for word in words[1:]:
                self.setenv(*word.split("=", 1))
        elif words[:1] == ["python"]:
            before, sys.argv = sys.argv, words[1:]
            try:
                runpy.run_path(str(ROOT / words[1]), run_name="__main__")
            finally:
                sys.argv = before
        elif words:
            subprocess.run(["bash", "-euc", line], check=True)

    def _smaller(self, words: list[str]) -> list[object]:
        """What is added to a command; the small network of ``train`` is that of its method."""
        if words[0] != "train":
            return self.small.get(words[0], [])
        named = dict(pairwise(words))
        cond = named.get("--cond")
        small = small_runs.settings(named.get("--method", f"ddpm-{cond or 'mask'}"))
        return small[2:] if cond else small
