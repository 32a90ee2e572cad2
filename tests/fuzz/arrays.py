"""npy, npz, safetensors and trainer.pt: headers that lie, arrays of the wrong kind, pickles that would act."""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
import zipfile
from random import Random
from typing import Any

import numpy as np
import torch

from .raw import damage
from .values import OUTSIDE, as_json, change_tree, near, value

_SHAPES = (
    "()", "(0,)", "(4,)", "(-1, 16, 16)", "(4, 16)", "(8, 16, 16)", "(4, 32, 32)", "(2**40, 16, 16)",
    "(4.0, 16, 16)", f"({2**40}, 16, 16)", f"({2**62}, 4, 16)", "(True, 16, 16)", "'x'", "(" * 300, "None",
    "(4, 16, 16, 1)",
)  # fmt: skip
_TYPES = (
    "'<i2'", "'|u1'", "'<f8'", "'<f4'", "'>i2'", "'|O'", "'|b1'", "'<U4'", "'|V2'", "'<c16'", "'<i8'", "'x'",
    "'|S0'", "[('a', '<i2')]", "None", "'<M8[s]'",
)  # fmt: skip


class _Acts:
    """Unpickled by a careless reader, it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {OUTSIDE}",)


def change_npy(rng: Random, content: bytes) -> bytes:
    """A .npy file with another header, another array, or damaged bytes."""
    what = rng.random()
    if what < 0.3:
        return damage(rng, content)
    if what < 0.6:
        return _npy_header(rng, content)
    buffer = io.BytesIO()
    array = _changed_array(rng, np.load(io.BytesIO(content), allow_pickle=False))
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _npy_header(rng: Random, content: bytes) -> bytes:
    length = int.from_bytes(content[8:10], "little")
    descr, order, shape = "'<i2'", "False", "(4, 16, 16)"
    if rng.random() < 0.5:
        descr = rng.choice(_TYPES)
    if rng.random() < 0.5:
        shape = rng.choice(_SHAPES)
    if rng.random() < 0.3:
        order = rng.choice(("True", "0", "None", "'C'", "1" * 400))
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    if rng.random() < 0.1:
        text = damage(rng, text.encode()).decode("latin1")
    header = text.encode("latin1", "replace").ljust(length - 1)[:60_000] + b"\n"
    said = len(header) if rng.random() < 0.9 else rng.choice((0, 1, length // 2, 65535))
    version = rng.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\xff"))
    size = struct.pack("<I" if version[0] in (2, 3) else "<H", said)
    return content[:6] + version + size + header + content[10 + length :]


def _changed_array(rng: Random, array: np.ndarray) -> np.ndarray:
    what = rng.randrange(7)
    if what == 0 and array.dtype.kind in "biuf":
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            return array.astype(rng.choice(("f4", "f8", "i1", "u1", ">i2", "i8", "c8", "?")))
    if what == 1:
        return np.asfortranarray(array)
    if what == 2:
        return array[: rng.randrange(len(array) + 1)] if array.ndim else array
    if what == 3:
        return np.array([_Acts()], object)
    if what == 4:
        changed = array.copy()
        if changed.size and changed.dtype.kind in "iuf":
            span = np.iinfo(changed.dtype) if changed.dtype.kind in "iu" else np.finfo(changed.dtype)
            extremes = (0, 1, 15, 16, 17, span.min, span.max)
            changed.reshape(-1)[rng.randrange(changed.size) :] = rng.choice(extremes)
        return changed
    if what == 5:
        return array.reshape(rng.choice(((-1,), (1, *array.shape), array.shape[::-1])))
    return np.zeros(rng.choice(((), (0,), (0, 16, 16), (4, 16, 16), (1, 1, 1))), rng.choice(("i2", "u1", "f4")))


def change_npz(rng: Random, content: bytes) -> bytes:
    """A .npz file with another array in it, a member that unpacks to 3 GiB, or damaged bytes."""
    if rng.random() < 0.4:
        return damage(rng, content)
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(list(arrays))
    what = rng.random()
    if what < 0.1:
        del arrays[name]
    elif what < 0.9:
        arrays[name] = _changed_array(rng, arrays[name])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    if what >= 0.9:
        with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as file, warnings.catch_warnings(action="ignore"):
            header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3221225472,), }"
            file.writestr(f"{name}.npy", b"\x93NUMPY\1\0v\0" + header.ljust(117) + b"\n" + bytes(1 << 20))
    return buffer.getvalue()


def change_safetensors(rng: Random, content: bytes) -> bytes:
    """A .safetensors file with a changed header, other numbers, or damaged bytes."""
    what = rng.random()
    if what < 0.3:
        return damage(rng, content)
    length = int.from_bytes(content[:8], "little")
    if what < 0.5:  # numbers that are none, in the place of weights
        start = 8 + length + 4 * rng.randrange(max(1, (len(content) - 8 - length) // 4))
        return (
            content[:start]
            + rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"))
            + content[start + 4 :]
        )
    header = as_json(change_tree(rng, json.loads(content[8 : 8 + length])))
    said = len(header) if rng.random() < 0.9 else rng.choice((0, 1, length, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", said) + header + content[8 + length :]


def change_trainer(rng: Random, content: bytes) -> bytes:
    """A trainer.pt of another content, a pickle that would act, or damaged bytes."""
    what = rng.random()
    if what < 0.4:
        return damage(rng, content)
    buffer = io.BytesIO()
    tree: Any = _Acts()
    if what >= 0.45:
        tree = torch.load(io.BytesIO(content), weights_only=True)
        for _ in range(rng.choice((1, 1, 2))):
            tree = change_tree(rng, tree, _tensor_or_value)
    torch.save(tree, buffer)
    return buffer.getvalue()


def _tensor_or_value(rng: Random) -> Any:
    if rng.random() < 0.5:
        return value(rng) if rng.random() < 0.5 else near(rng, rng.choice((1, 0.5, True, "step")))
    return rng.choice((
        torch.zeros(0), torch.tensor(float("nan")), torch.zeros(3, 3), torch.tensor(-5), torch.tensor("x" == "y"),
        torch.zeros(1).expand(1 << 33), torch.zeros(2, 2, dtype=torch.complex64), torch.zeros(2).to_sparse(),
        torch.empty(2, 2, device="meta"), torch.zeros(2, dtype=torch.bfloat16),
    ))  # fmt: skip
