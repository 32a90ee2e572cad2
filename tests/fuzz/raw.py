"""Damage that any file can have: bits, cuts, holes, foreign bytes."""

from __future__ import annotations

import re
from random import Random

_FOREIGN = (
    b"", b"\0", b"\n", b"null", b"[]", b"{}", b"true", b"-1", b'"text"', b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}",
    b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\x93NUMPY", b"<html>", b"\x80\x04.",
    b"\x89PNG\r\n", b"n+1\0" * 100,
)  # fmt: skip


def damage(rng: Random, content: bytes) -> bytes:
    """The content with one to three of the harms below."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_HARMS)(rng, content)
    return content


def change_dicom(rng: Random, content: bytes) -> bytes:
    """A DICOM file in which numbers written as text are others of the same length, or with damaged bytes."""
    if rng.random() < 0.6:
        return damage(rng, content)
    changed = bytearray(content)
    places = list(re.finditer(rb"[-+.0-9]{1,16}", content))
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.choice(places)
        number = rng.choice((b"9" * 16, b"1e308", b"-1", b"0", b"1.5", b"nan", b"inf", b"-", b"x", b"\\", b""))
        changed[slice(*place.span())] = number.ljust(len(place[0]))[: len(place[0])]
    return bytes(changed)


def _flip_bits(rng: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[_early(rng, len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    start, length = _early(rng, len(changed) + 1), rng.choice((1, 2, 4, 8, 64))
    changed[start : start + length] = rng.choice((b"\0", b"\xff", b"\x7f", b" ", b"9")) * length
    return bytes(changed)


def _cut(rng: Random, content: bytes) -> bytes:
    return content[
        : _early(rng, len(content) + 1) if rng.random() < 0.5 else max(0, len(content) - rng.choice((1, 8)))
    ]


def _behead(rng: Random, content: bytes) -> bytes:
    return content[_early(rng, len(content) + 1) :]


def _insert(rng: Random, content: bytes) -> bytes:
    place = _early(rng, len(content) + 1)
    return content[:place] + rng.randbytes(rng.choice((1, 2, 16, 1000))) + content[place:]


def _repeat(rng: Random, content: bytes) -> bytes:
    start = _early(rng, len(content) + 1)
    return (
        content[:start]
        + content[start : start + rng.choice((1, 16, 400))] * rng.choice((2, 3, 100))
        + content[start:]
    )


def _append(rng: Random, content: bytes) -> bytes:
    return content + rng.choice((b"\0" * 1000, rng.randbytes(100), content, *_FOREIGN))


def _replace(rng: Random, content: bytes) -> bytes:
    return rng.choice((rng.randbytes(len(content) % 10_000), *_FOREIGN))


def _early(rng: Random, length: int) -> int:
    """A place in the content, half of the time in its first 400 bytes, where headers are."""
    length = max(length, 1)
    return rng.randrange(min(length, 400) if rng.random() < 0.5 else length)


_HARMS = (_flip_bits, _flip_bits, _flip_bits, _overwrite, _cut, _cut, _behead, _insert, _repeat, _append, _replace)
