"""Names as they may stand in CSV, Markdown, LaTeX and file names, whatever characters people gave them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", **{special: "\\" + special for special in "&%$#_{}"},
    "—": "---", "↓": r"$\downarrow$", "↑": r"$\uparrow$",
}  # fmt: skip

_LONGEST = 50  # characters of a file's stem, up to four bytes each


def one_line(text: str) -> str:
    """Text without line breaks and other control characters, each a blank."""
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", " ", text)


def csv_cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula: a quote goes before one, as in OWASP's advice."""
    text = one_line(text)
    return f"'{text}" if re.match(r"\s*([=@]|[+-](?![\d.]))", text) else text


def markdown_cell(text: str) -> str:
    """Text in a pipe table."""
    text = re.sub(r"([\\|*`<])", r"\\\1", one_line(text))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # within a word it is no emphasis


def latex_cell(text: str) -> str:
    r"""Text in a tabular; a leading bracket or star would be read as an option of the ``\\`` before it."""
    text = one_line(text)
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return f"{{{escaped[0]}}}{escaped[1:]}" if text[:1] in ("[", "*") else escaped


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """A file name without suffix for each name: lower case, words joined by hyphens, no two alike."""
    stems: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = unicodedata.normalize("NFC", name).casefold()
        plain = re.sub(r"[\W_]+", "-", plain)[:_LONGEST].strip("-")
        taken, stem, number = set(stems.values()), plain or "unnamed", 2
        while stem in taken:
            stem, number = f"{plain or 'unnamed'}-{number}", number + 1
        stems[name] = stem
    return stems
