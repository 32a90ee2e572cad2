"""``ctsynth weights``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ctsynth.cli import console


def command(
    action: Annotated[
        Literal["list", "verify", "import"],
        typer.Argument(metavar="ACTION", help="list, verify or import.", show_default="list"),
    ] = "list",
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="Names to list or verify, such as inception; files to import.",
            show_default="all known; verify: all that are here",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List, verify or import pretrained weights; needs no internet.

    Nothing is downloaded. Inception (FID, KID) and VGG-19 (SPADE) are looked
    for in the folders of $CTSYNTH_WEIGHTS, in ctsynth's own folder and in torch
    hub's cache, TotalSegmentator's (Dice) in $TOTALSEG_HOME_DIR. A file whose
    SHA-256 is not the published one is never used:

        ctsynth weights list
        ctsynth weights import pt_inception-2015-12-05-6726825d.pth
        ctsynth weights verify inception && ctsynth score samples

    `list` prints the command that downloads each file on a machine with internet.
    `import` copies files to the first folder of $CTSYNTH_WEIGHTS, or to ctsynth's
    own. `verify` exits with 2 if a file is damaged, or if one that you name is
    missing.
    """
    from json import dumps

    names = what or []
    if action == "import":
        found = _import([Path(name) for name in names])
    else:
        found = _verify(names) if action == "verify" else _list(names)
    console.echo(dumps(found, indent=2) if as_json else _described(found))


def _list(names: list[str]) -> dict[str, Any]:
    from ctsynth import weights

    return {"folders": [str(folder) for folder in weights.folders()], "weights": _entries(names)}


def _verify(names: list[str]) -> dict[str, Any]:
    from ctsynth.errors import DataError

    found = _entries(names)
    if not names:
        found = {name: entry for name, entry in found.items() if entry["sha256"] and entry["path"]}
    for name, entry in found.items():
        if entry["problem"]:
            raise DataError(f"{name}: {entry['problem']}", hint=entry["remedy"])
    return {"weights": found}


def _entries(names: list[str]) -> dict[str, Any]:
    """What is known of all weights, or of those that a word of their name is given of."""
    from ctsynth import weights
    from ctsynth.errors import UsageError

    known = {name: partial(_file, name) for name in weights.TABLE}
    known |= {f"totalsegmentator {task}": partial(_task, task) for task in weights.TASKS}
    chosen = names or list(known)
    if unknown := [name for name in chosen if not any(name in (key, *key.split()) for key in known)]:
        raise UsageError(f"no weights are called {unknown[0]!r}", hint=f"there are: {', '.join(known)}")
    found = [key for name in chosen for key in known if name in (key, *key.split())]
    return {key: known[key]() for key in dict.fromkeys(found)}


def _import(paths: list[Path]) -> dict[str, Any]:
    from ctsynth import weights
    from ctsynth.errors import UsageError

    if not paths:
        raise UsageError("no file to import", hint="ctsynth weights import FILE")
    return {"imported": [str(weights.import_file(path)) for path in paths]}


def _file(name: str) -> dict[str, Any]:
    from ctsynth import weights

    problem, path = weights.missing(name), weights.find(name)
    entry = weights.TABLE[name]
    return {
        "state": "ready" if not problem else "damaged" if path else "missing",
        "purpose": entry.purpose,
        "path": str(path) if path else None,
        "sha256": entry.sha256,
        "bytes": entry.size,
        "url": entry.url,
        "problem": problem,
        "remedy": weights.remedy(name) if problem else "",
    }


def _task(task: str) -> dict[str, Any]:
    from ctsynth import weights

    problem = weights.task_missing(task)
    return {
        "state": "missing" if problem else "there",  # nobody publishes what its files' SHA-256 should be
        "purpose": "Dice of the organs",
        "path": str(weights.task_root()),
        "sha256": None,
        "problem": problem,
        "remedy": weights.task_remedy(task) if problem else "",
    }


def _described(found: dict[str, Any]) -> str:
    if "imported" in found:
        return "\n".join(found["imported"])
    lines = []
    for name, entry in found["weights"].items():
        lines.append(f"{name}: {entry['state']}. {entry['purpose']}")
        shown = ("path", "sha256", "problem", "remedy")
        lines += [f"  {key:<8} {entry[key]}" for key in shown if entry.get(key)]
    return "\n".join(lines) or "no weights are here: see ctsynth weights list"
