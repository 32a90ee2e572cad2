"""TOML, JSON, JSON lines and plain text files with entries that cannot be."""

from __future__ import annotations

import json
from random import Random

from .raw import damage
from .values import STRINGS, as_json, change_tree

_TOML = (
    "0", "-1", "1", "true", "nan", "inf", "-inf", "1e308", "0.5", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", '""', '"x"', '"auto"', "[]", "[0.9]", "[0.9, 0.999]", "[1.0, -1.0]", "[2, 2]",
    "[nan, 0.5]", "[[]]", "{}", "{ a = 1 }", "1979-05-27", "07:32:00", "0x10", "1_000", '"""\n"""',
    "[" * 2000 + "]" * 2000, "9" * 5000, "1e-300", "3", "7", "1000000", '"ddpm-mask"', '"spade"', '"unet2d"',
    '"cosine"', '"bf16"',
)  # fmt: skip


def change_json(rng: Random, content: bytes) -> bytes:
    """A JSON file of another content, or with damaged bytes."""
    if rng.random() < 0.2:
        return damage(rng, content)
    tree = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = change_tree(rng, tree)
    return as_json(tree)


def change_jsonl(rng: Random, content: bytes) -> bytes:
    """JSON lines of which one is of another content, or damaged, or twice, or not there."""
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    what = rng.random()
    if what < 0.2:
        return damage(rng, content)
    if what < 0.8:
        lines[place] = as_json(change_tree(rng, json.loads(lines[place])))
    elif what < 0.9:
        lines[place] = damage(rng, lines[place])
    else:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice((b"", b"{}", b"[]", b"}", b"\xff", *lines)))
    return b"\n".join(lines) + rng.choice((b"\n", b"\n", b"", b"\r\n"))


def change_toml(rng: Random, content: bytes) -> bytes:
    """A TOML file in which a value, a key or a line is another."""
    if rng.random() < 0.2:
        return damage(rng, content)
    lines = content.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(lines))
        key, equals, _ = lines[place].partition(" = ")
        if equals:
            lines[place] = f"{key} = {rng.choice(_TOML)}"
        else:
            lines[place] = rng.choice(
                ("", "[x]", "[training]", "[[options]]", "x = 1", f"{json.dumps(rng.choice(STRINGS))} = 1")
            )
    return "\n".join(lines).encode("utf-8", "replace")
