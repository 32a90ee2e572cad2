"""What in a run's folder is the run's own: --out may name any folder, and everything else in it stays."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json
from ctsynth.outputs import refuse_foreign
from ctsynth.training import tensorboard
from ctsynth.training.checkpoint import is_own, saved

FILES = ("latest", "metrics.jsonl", "loss.png", "config.json")
"""Beside the checkpoints and sample sheets; config.json, which marks a run, last."""


def make_way(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Clears the way for a run that begins or continues in a folder, which may hold other things.

    Args:
        run: The folder.
        resume: A run that is there is continued.
        overwrite: A run that is there is deleted.

    Raises:
        UsageError: There is a run, to be neither continued nor deleted; or a user's file is in the way.
    """
    config = run / "config.json"
    refuse_foreign(config, _is_config, "the config.json of a run")
    if not config.exists():
        if theirs := next(_parts(run), None):
            raise UsageError(f"{theirs}: not overwritten: {run} is no run's folder", hint="name another `out`")
    elif overwrite:
        _remove(run)
    elif not resume:
        raise UsageError(
            f"{run}: a run is there already",
            hint="continue it (`resume`), replace it (`overwrite`) or name another `out`",
        )


def _is_config(path: Path) -> bool:
    try:
        content = read_json(path)
    except DataError:
        return False
    return isinstance(content, dict) and {"schema", "method", "options", "training"} <= content.keys()


def _parts(run: Path) -> Iterator[Path]:
    """What is there under the names of a run's files and folders."""
    yield from saved(run)
    yield from (path for path in (run / "samples").glob("*") if re.fullmatch(r"step_\d{9}\.png", path.name))
    yield from (run / tensorboard.FOLDER).glob(tensorboard.FILES)
    yield from (run / name for name in FILES if os.path.lexists(run / name))


def _remove(run: Path) -> None:
    parts = list(_parts(run))
    for path in parts:
        if path.is_dir() and not is_own(path):
            raise UsageError(f"{path}: holds what is not of a checkpoint", hint="move it elsewhere")
    for path in parts:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name in ("checkpoints", "samples", tensorboard.FOLDER):
        with suppress(OSError):  # other things are in it
            (run / name).rmdir()
