"""Values that a careful reader must refuse or bear, and how a value is put into parsed JSON, TOML or pickles."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

OUTSIDE = "/tmp/ctsynth-fuzz-outside"
"""A path that nothing may be written to."""

DEEP = "@deep@"
"""Becomes 100,000 nested lists where a tree is written as JSON."""

LONG = "@long@"
"""Becomes an integer of 5,000 digits, which Python refuses to read."""

NUMBERS = (
    0, -1, 1, 2, 3, 7, 17, 200, 255, 256, 1000, 32767, -32768, 65535, 65536, 10**6, 2**31 - 1, -(2**31), 2**31,
    2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400, -(10**400), 0.5, -0.0, -0.5, 0.999,
    1e-300, 1e-45, 1e-6, 1e-3, 1e6, 1e30, -1e30, 1e308, -1e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip

STRINGS = (
    "", " ", ".", "..", "../../outside", "../out", OUTSIDE, f"{OUTSIDE}/x", "x/y", "x" * 241, "y" * 5000,
    "nul\0byte", "line\nbreak", "tab\t", "[/red]", "[bold]x", "\\[/]", "\\", "%s%n%d", "{0}{x}", "ünïcödé",
    "\ud800", "\u202ertl", "=1+2", "<script>alert(1)</script>", "&amp;<!--", "$(touch outside)", "`x`", "nan",
    "inf", "1e999", "-1", "0", "null", "true", ".hidden", ".partial-1-x", "_synthetic", "train", "test", "body",
    "liver", "Liver", "cuda", "auto", "#ffffff", "ddpm-mask", "unet2d", "dpm++", "fid", "1/1", "slurm",
    "\\input{x}", "a|b", "a,b;c",
)  # fmt: skip

NAMES = (
    *(name for name in STRINGS if 0 < len(name) < 250 and not set(name) & set("/\0\ud800")),
    "\udcff",
    "x\udc80y",
)
"""Names for files; the last two are no UTF-8, and some are too long for a file system."""

OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, DEEP, LONG)


def value(rng: Random) -> Any:
    """An extreme number, string or something else."""
    return copy.deepcopy(rng.choice(rng.choice((NUMBERS, STRINGS, OTHERS))))


def near(rng: Random, old: Any) -> Any:
    """A value of the same kind, a little or very different."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int | float):
        return rng.choice((old + 1, old - 1, -old, old * 2, old * 1000, 0.5, rng.choice(NUMBERS)))
    if isinstance(old, str):
        place = rng.randrange(len(old) + 1)
        return rng.choice((old.upper(), old[:place], old + old, old[:place] + rng.choice(STRINGS) + old[place:]))
    return value(rng)


def change_tree(rng: Random, tree: Any, new: Any = value) -> Any:
    """Changes one entry of nested dicts and lists, in place where that is possible.

    Args:
        rng: Decides where and what.
        tree: As ``json.loads`` gives it.
        new: Makes a value that has nothing to do with the old one.

    Returns:
        The changed tree.
    """
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.02:
        return new(rng)
    parent, key = _place(rng, tree)
    what = rng.choice(("new", "new", "new", "near", "near", "delete", "elsewhere", "add", "repeat", "wrap"))
    if what == "new":
        parent[key] = new(rng)
    elif what == "near":
        parent[key] = near(rng, parent[key])
    elif what == "delete":
        del parent[key]
    elif what == "elsewhere":
        other, other_key = _place(rng, tree)
        parent[key] = copy.deepcopy(other[other_key])
    elif what == "add" and isinstance(parent, dict):
        parent[rng.choice(STRINGS)] = new(rng)
    elif what == "wrap":
        parent[key] = [parent[key]]
    elif isinstance(parent, list):
        parent.extend(copy.deepcopy(parent[:20]) * rng.choice((1, 1, 50)))
    else:
        parent[rng.choice(STRINGS)] = parent.pop(key)
    return tree


def _place(rng: Random, tree: Any) -> tuple[Any, Any]:
    """A container and a key in it, found by walking down: what lies near the top is found more often."""
    parent = tree
    while True:
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        inner = parent[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            return parent, key
        parent = inner


def as_json(tree: Any) -> bytes:
    """The JSON text of a changed tree; infinity and NaN are written, as Python reads them."""
    text = json.dumps(tree, ensure_ascii=True)
    text = text.replace(f'"{LONG}"', "9" * 5000).replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
    return text.encode()
