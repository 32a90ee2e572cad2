"""Pretrained weights: which files there are, where they are looked for, and how to bring them without internet.

Nothing is ever downloaded, and no file is used whose SHA-256 is not the one in ``TABLE``.
"""

from __future__ import annotations

import functools
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctsynth.errors import DataError, UsageError
from ctsynth.files import atomic, sha256

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A file of pretrained weights.

    Args:
        file: Its name, as torch hub keeps it.
        url: Where its makers publish it.
        purpose: What it is needed for.
        sha256: SHA-256 of its bytes, all 64 digits.
        size: In bytes, for people; only the SHA-256 is checked.
    """

    file: str
    url: str
    purpose: str
    sha256: str
    size: int


TABLE = {
    "inception": Pretrained(
        file="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        purpose="FID and KID: TensorFlow's Inception of 2015, as pytorch-fid uses it",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        size=95_628_359,
    ),
    "vgg19": Pretrained(
        file="vgg19-dcbb9e9d.pth",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        purpose="SPADE's perceptual loss: torchvision's VGG-19",
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        size=574_673_361,
    ),
}
"""Every file, by the name that users type."""

TASKS = {"total": (291, 292, 293, 294, 295), "total_fast": (297,)}
"""TotalSegmentator's tasks that Dice can use, and the numbers of their nnU-Net data sets."""


def folders() -> list[Path]:
    """Where files are looked for, in this order: $CTSYNTH_WEIGHTS, ctsynth's own folder, torch hub's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch_home = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    return [*_own_folders(), (torch_home / "hub" / "checkpoints").expanduser()]


def _own_folders() -> list[Path]:
    named = [Path(part).expanduser() for part in os.environ.get("CTSYNTH_WEIGHTS", "").split(os.pathsep) if part]
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return [*named, data / "ctsynth" / "weights"]


def find(name: str) -> Path | None:
    """The first file of that name in ``folders()``, intact or not; None where there is none.

    Raises:
        UsageError: There are no such weights in the table.
    """
    file = _entry(name).file
    return next((path for folder in folders() if (path := folder / file).is_file()), None)


def missing(name: str) -> str:
    """Why the weights cannot be used, or nothing at all: ``""`` if they are there and their SHA-256 is right.

    Raises:
        UsageError: There are no such weights in the table.
    """
    entry, path = _entry(name), find(name)
    if path is None:
        return f"{entry.file} is in none of {', '.join(map(str, folders()))}"
    try:
        digest = digest_of(path)
    except OSError as error:
        return f"{path}: cannot read it: {error.strerror or error}"
    return "" if digest == entry.sha256 else _damaged(path, digest, entry)


def remedy(name: str) -> str:
    """What to do about missing weights: the command for a machine with internet, and the one for this machine.

    Raises:
        UsageError: There are no such weights in the table.
    """
    entry = _entry(name)
    return f"on a machine with internet: curl -LO {entry.url}; then here: ctsynth weights import {entry.file}"


def load(name: str) -> dict[str, Tensor]:
    """The tensors of a file by their names, on the CPU.

    Raises:
        UsageError: There are no such weights in the table.
        DataError: The file is missing, or is not the one that the table names.
    """
    reason, path = missing(name), find(name)
    if reason or path is None:
        raise DataError(f"no {name} weights: {reason}", hint=remedy(name))
    return read(path)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of torch's, on the CPU; nothing else in it is unpickled, and no hash is checked.

    Raises:
        DataError: It holds no dictionary of tensors.
    """
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle protocol that is not its own
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: EOFError, KeyError, UnpicklingError, RuntimeError, ValueError
        raise DataError(f"{path}: cannot read weights from it: {error}", hint="fetch the file again") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise DataError(f"{path}: it holds a {type(content).__name__}, wanted tensors by name")
    return content


def import_file(path: Path) -> Path:
    """Copies a file into the first of $CTSYNTH_WEIGHTS, else ctsynth's own folder, under its right name.

    It is known by its content, whatever it is called.

    Returns:
        Where it is now.

    Raises:
        DataError: There is no such file, or its SHA-256 is none of the table's.
        RunError: The folder cannot be written to.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", hint="name the file that was fetched")
    try:
        digest = digest_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot read it: {error.strerror or error}") from error
    entry = next((entry for entry in TABLE.values() if entry.sha256 == digest), None)
    if entry is None:
        named = next((entry for entry in TABLE.values() if entry.file == path.name), None)
        raise DataError(
            _damaged(path, digest, named)
            if named
            else f"{path}: its SHA-256 {digest} is that of no known weights",
            hint=f"known are {', '.join(entry.file for entry in TABLE.values())}: see ctsynth weights list",
        )
    target = _own_folders()[0] / entry.file
    if not (target.is_file() and digest_of(target) == digest):
        with atomic(target) as partial:
            shutil.copyfile(path, partial)
    return target


def task_root() -> Path:
    """The folder that TotalSegmentator's weights are looked for in, as TotalSegmentator itself does."""
    named = os.environ.get("TOTALSEG_WEIGHTS_PATH")
    home = Path(os.environ.get("TOTALSEG_HOME_DIR") or Path.home() / ".totalsegmentator")
    return Path(named) if named else home / "nnunet" / "results"


def task_missing(task: str) -> str:
    """Why a task of ``TASKS`` cannot be run; ``""`` if its folders are there, whose content is not looked at."""
    absent = [f"Dataset{number}_*" for number in TASKS[task] if not any(task_root().glob(f"Dataset{number}_*"))]
    return f"no {', '.join(absent)} in {task_root()}" if absent else ""


def task_remedy(task: str) -> str:
    """What to do about a missing task: the command for a machine with internet, and what to copy."""
    fetch = f"on a machine with internet: totalseg_download_weights -t {task}"
    return f"{fetch}; then copy its ~/.totalsegmentator/nnunet/results to {task_root()}"


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, read once a process for as long as the file does not change.

    Raises:
        OSError: It cannot be read.
    """
    found = path.stat()
    return _digest(path.absolute(), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:  # the last two are parts of the key
    return sha256(path)


def _entry(name: str) -> Pretrained:
    if name not in TABLE:
        raise UsageError(f"no weights are called {name!r}", hint=f"there are: {', '.join(TABLE)}")
    return TABLE[name]


def _damaged(path: Path, digest: str, wanted: Pretrained) -> str:
    return (
        f"{path}: its SHA-256 is {digest[:16]}..., wanted {wanted.sha256[:16]}... "
        f"({path.stat().st_size:,} bytes, wanted {wanted.size:,}): damaged, or other weights"
    )
