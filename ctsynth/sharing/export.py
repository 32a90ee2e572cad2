"""A checkpoint as a folder to share: model.safetensors, config.json, README.md, and no path or pickle of ours.

The form is that of the Hugging Face Hub; nothing is sent anywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctsynth import __version__
from ctsynth.config import RunConfig, sealed
from ctsynth.data.manifest import read_manifest
from ctsynth.errors import DataError, UsageError
from ctsynth.files import atomic, read_json, sha256, write_json
from ctsynth.methods.base import find_method
from ctsynth.scoring.scores import Scores
from ctsynth.sharing.card import Facts, card
from ctsynth.training import checkpoint

RECORD = "export.json"
"""Records that a folder was made here, and the hashes of its files."""

CARD, WEIGHTS = "README.md", "model.safetensors"


def export(model: Path, out: Path, *, scores: Sequence[Path] = (), overwrite: bool = False) -> Path:
    """Writes a checkpoint's averaged weights, its settings and a model card, whole or not at all.

    What is there and whole stays as it is, a card that was filled in among it.

    Args:
        model: A run or a checkpoint.
        out: The folder to make.
        scores: Files of scores for the card, of volumes that were drawn by this model.
        overwrite: Replace an export of another checkpoint or with other scores.

    Returns:
        The folder.

    Raises:
        UsageError: There is no such run, it is a segmenter's, or what is in the folder is not an export or was
            changed by hand.
        DataError: A file of the checkpoint is damaged, or scores are of another model.
    """
    found = checkpoint.find(model)
    config = checkpoint.verify(found)
    find_method(config.method)  # and not a segmenter
    if checkpoint.is_exported(config):
        raise UsageError(f"{model}: it is an export already", hint="copy the folder")
    weights = checkpoint.averaged(found, config)
    digest = sha256(weights)
    loaded = [_of_this_model(path, config, digest) for path in scores]
    known = {"weights_sha256": digest, "scores_sha256": [sha256(path) for path in scores]}
    if _is_there(out, known, overwrite=overwrite):
        return out
    with atomic(out) as partial:
        partial.mkdir()
        shutil.copyfile(weights, partial / WEIGHTS)
        shared = replace(
            config,
            data={key: value for key, value in config.data.items() if key != "path"},
            start={key: value for key, value in config.start.items() if key == "sha256"},
            sha256={WEIGHTS: digest},
        )
        write_json(partial / "config.json", sealed(shared))
        text = card(Facts(shared, out.absolute().name, _step(found), _split(config), digest, tuple(loaded)))
        (partial / CARD).write_text(text, encoding="utf-8")
        hashes = {file.name: sha256(file) for file in sorted(partial.iterdir())}
        write_json(partial / RECORD, {"version": __version__, **known, "sha256": hashes})
    return out


def _is_there(out: Path, known: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether the folder is this very export, whole.

    Raises:
        UsageError: It is something else that is not to be replaced.
    """
    if not out.exists():
        return False
    record = _record(out)
    files = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not record or not files <= {*record["sha256"], RECORD}:
        raise UsageError(f"{out}: not overwritten: it is not an export alone", hint="name another folder")
    changed = [name for name in files - {RECORD} if sha256(out / name) != record["sha256"][name]]
    same = all(record.get(key) == value for key, value in known.items())
    whole = files == {*record["sha256"], RECORD}
    if same and whole and set(changed) <= {CARD}:  # which people fill in
        return True
    if changed and (not overwrite or CARD in changed):
        raise UsageError(f"{out / changed[0]}: changed since it was exported", hint="move it elsewhere")
    if not same and not overwrite:
        raise UsageError(
            f"{out}: an export of another checkpoint or with other scores", hint="name another, or say `overwrite`"
        )
    return False


def _record(out: Path) -> dict[str, Any]:
    with suppress(DataError):
        content = read_json(out / RECORD)
        if isinstance(content, dict) and isinstance(content.get("sha256"), dict):
            return content
    return {}


def _of_this_model(path: Path, config: RunConfig, digest: str) -> Scores:
    scores = Scores.load(path)
    drawn = scores.provenance.get("weights_sha256")
    if drawn != digest:
        raise DataError(
            f"{path}: scores of {scores.provenance.get('method', 'unknown volumes')} with weights"
            f" {str(drawn)[:12]}, not of {config.method} with {digest[:12]}",
            hint="draw with this checkpoint, then score",
        )
    return scores


def _step(found: Path) -> int | None:
    return checkpoint.step_of(found) if checkpoint.is_step(found) else None


def _split(config: RunConfig) -> dict[str, Any] | None:
    """What the manifest of the store says, if it is still there and the one that was trained on."""
    with suppress(DataError):
        manifest = read_manifest(Path(str(config.data.get("path"))))
        return {
            "phantom": bool(manifest.get("phantom")),
            "train": sorted(str(one["name"]) for one in manifest["subjects"] if one["split"] == "train"),
            "test": sorted(str(one["name"]) for one in manifest["subjects"] if one["split"] == "test"),
        }
    return None
