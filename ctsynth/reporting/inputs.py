"""Finds what a report is about: scores, and the training runs behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctsynth.errors import DataError
from ctsynth.files import read_json
from ctsynth.reporting.table import NOTHING
from ctsynth.reporting.tables import labelled, phantom_caveat
from ctsynth.scoring.scores import Scores


@dataclass(frozen=True, slots=True)
class Entry:
    """One system of the report.

    Args:
        name: What to call it; no other entry is called so.
        scores: None for a run that was not scored.
        run: Its training run; None where it is not here.
        file: What the scores were read from.
    """

    name: str
    scores: Scores | None
    run: Path | None
    file: Path | None = None

    @property
    def method(self) -> str:
        """Its method's name; its own if the volumes do not say what drew them."""
        return (self.scores.provenance.get("method") if self.scores else None) or self.name

    @property
    def is_phantom(self) -> bool:
        """Whether it was scored on phantoms."""
        return self.scores is not None and self.scores.phantom

    @property
    def iterations(self) -> int | None:
        """Steps of the checkpoint that drew the volumes."""
        return self.scores.provenance.get("iterations") if self.scores else None

    @property
    def sampler(self) -> str:
        """What drew the volumes: ``dpm++ 20``; a dash for a method that draws in one pass."""
        sampler = self.scores.provenance.get("sampler") if self.scores else None
        if sampler is None:
            return NOTHING
        guidance = sampler.get("guidance", 1)
        return f"{sampler['name']} {sampler['steps']}" + (f", guidance {guidance:g}" if guidance != 1 else "")


def latest(entries: Sequence[Entry]) -> list[Entry]:
    """The entry of each method's last checkpoint, in the order of the entries."""
    scored = [entry for entry in entries if entry.scores]
    last: dict[str, int] = {}
    for entry in scored:
        last[entry.method] = max(last.get(entry.method, 0), entry.iterations or 0)
    return [entry for entry in scored if (entry.iterations or 0) == last[entry.method]]


def caveat(entries: Sequence[Entry]) -> str:
    """A sentence on what was scored on phantoms; empty where nothing was."""
    phantoms = [entry.name for entry in entries if entry.is_phantom]
    others = any(entry.scores and not entry.is_phantom for entry in entries)
    return f"{phantom_caveat(phantoms if others else ())}." if phantoms else ""


def find_entries(inputs: Sequence[Path]) -> list[Entry]:
    """What each path means, every run only once.

    Raises:
        DataError: A path is neither scores nor a run.
    """
    every = [entry for path in inputs for entry in _entries(path)]
    entries = list({entry.file or entry.run: entry for entry in every}.values())
    scored = {entry.run.resolve() for entry in entries if entry.run and entry.scores}
    entries = [entry for entry in entries if entry.scores or not entry.run or entry.run.resolve() not in scored]
    return _distinguished(entries)


def _entries(path: Path) -> list[Entry]:
    """The scores in a file, or in a folder and all below it (a folder a checkpoint); else the run itself."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    files = sorted(path.rglob("scores.json")) if path.is_dir() else [path] if path.suffix == ".json" else []
    own = path if _is_run(path) else None
    if files:
        found = {file.resolve(): Scores.load(file) for file in files}
        return [
            Entry(labelled(scores.name, phantom=scores.phantom), scores, own or _run_of(scores), file)
            for file, scores in found.items()
        ]
    if own:
        return [Entry(path.absolute().name, None, path)]
    raise DataError(
        f"{path}: neither a training run nor scored: no metrics.jsonl, no scores.json",
        hint=f"score the volumes first: ctsynth score {path}",
    )


def _is_run(path: Path) -> bool:
    return (path / "metrics.jsonl").is_file() or (path / "checkpoints").is_dir()


def _run_of(scores: Scores) -> Path | None:
    """RUN of the checkpoint RUN/checkpoints/step_N that the volumes were drawn with, if it is still there."""
    model = scores.provenance.get("model")
    run = Path(model).parent.parent if model is not None else None
    return run if run and _is_run(run) else None


def _distinguished(entries: list[Entry]) -> list[Entry]:
    """Adds iterations, then numbers, to names that occur more than once."""
    counts = Counter(entry.name for entry in entries)
    named = [
        replace(entry, name=f"{entry.name}, {entry.iterations:,} iterations")
        if counts[entry.name] > 1 and entry.iterations
        else entry
        for entry in entries
    ]
    counts, seen = Counter(entry.name for entry in named), Counter[str]()
    for place, entry in enumerate(named):
        seen[entry.name] += 1
        if counts[entry.name] > 1:
            named[place] = replace(entry, name=f"{entry.name} ({seen[entry.name]})")
    return named


def run_config(run: Path) -> dict[str, Any]:
    """A run's config.json; empty where it has none."""
    path = run / "config.json"
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
