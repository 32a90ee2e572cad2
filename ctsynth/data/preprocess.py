"""A data set of NIfTI volumes to a slice store: check, find the body, window, slice, write."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ctsynth.data.body import body_mask
from ctsynth.data.folders import is_whole, refuse_strangers, remove
from ctsynth.data.layouts import Layout, discover
from ctsynth.data.manifest import SPLITS, is_manifest, read_manifest, read_subject
from ctsynth.data.masks import complete
from ctsynth.data.pairs import read_pair
from ctsynth.data.relabel import Given, given_by_datasets
from ctsynth.data.settings import Settings
from ctsynth.data.slices import to_slices
from ctsynth.data.source_case import SourceCase
from ctsynth.data.split_body import split_body
from ctsynth.data.store import write_manifest, write_subject
from ctsynth.data.summary import BrokenSubjectsError, Summary
from ctsynth.data.twins import refuse_twins
from ctsynth.data.workers import outcomes
from ctsynth.errors import CTSynthError, DataError, RunError, UsageError, explain
from ctsynth.files import sha256
from ctsynth.labels import LabelSet
from ctsynth.outputs import refuse_inputs

log = logging.getLogger(__name__)

NAMES = "label_names"
"""In a subject's record: what a dataset.json says of its numbers, where they are not those of the label set."""


def find_cases(
    source: Path, settings: Settings, shard: tuple[int, int] = (1, 1)
) -> tuple[Layout, list[SourceCase]]:
    """The cases of a source, and those of one shard: every N-th, beginning with the I-th.

    Args:
        source: The data set's folder.
        settings: How to read and split it.
        shard: (I, N), I from 1 to N.

    Raises:
        DataError: The source as a whole cannot be used.
        UsageError: There is no such shard.
    """
    index, count = shard
    if not 1 <= index <= count:
        raise UsageError(f"`shard` {index}/{count}: there are shards 1/{count} to {count}/{count}")
    layout = discover(source, images=settings.image_folder, labels=settings.label_folder, rule=settings.rule)
    return layout, list(layout.cases[index - 1 :: count])


def preprocess(
    source: Path,
    out: Path,
    *,
    settings: Settings,
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    progress: Callable[..., None] = lambda done, note="": None,
) -> Summary:
    """Makes the slice store of a data set.

    A subject that is whole, of the same files and settings is kept, so the same command continues where it
    stopped. A broken one does not stop the others.

    Args:
        source: The data set's folder.
        out: The store's folder.
        settings: How.
        workers: Processes; the machine's cores, at most 8, if None. 1 works in this process.
        shard: (I, N): this run makes every N-th subject, beginning with the I-th; the manifest merges all shards.
        overwrite: Make every subject again, also with other settings than the store was made with.
        progress: Called with the number of subjects done and the latest one's name.

    Raises:
        DataError: The source as a whole cannot be used; two subjects have the same image.
        UsageError: The store there was made with other settings.
        BrokenSubjectsError: Some subjects could not be made; the others are in the store.
        RunError: The store cannot be written to.
    """
    layout, cases = find_cases(source, settings, shard)
    refuse_inputs([out], [source, *(path.parent for case in layout.cases for path in (case.image, case.label))])
    folders = {case.label.parent for case in cases}
    datasets = given_by_datasets(folders, source, settings.labels, known_only=settings.unmatched is None)
    known = _check_out(source, out, settings.as_json(), overwrite)
    everyone = [(case.split, case.name) for case in layout.cases]
    has_manifest = (out / "manifest.json").exists()
    if overwrite:  # if this is interrupted, the same command continues without --overwrite
        write_manifest(out, known, everyone, str(source.resolve()), phantom=layout.phantom)
    kept, broken = 0, {}
    task = _Task(source, out, settings, known, datasets, overwrite, has_manifest)
    with closing(outcomes(task, cases, workers)) as finished:
        for done, (case, outcome) in enumerate(finished, 1):
            if isinstance(outcome, CTSynthError):
                broken[case.name] = outcome
            kept += outcome == "kept"
            if outcome == "mended":
                log.warning("%s was damaged: made again", out / case.split / case.name)
            progress(done, case.name)
    everyone = [(split, name) for split, name in everyone if name not in broken]
    records = write_manifest(out, known, everyone, str(source.resolve()), phantom=layout.phantom)
    broken = {case.name: broken[case.name] for case in cases if case.name in broken}
    summary = Summary(layout, settings.labels, records, len(cases) - kept - len(broken), kept, broken)
    summary.warn(settings.unmatched or "body")
    if broken:
        raise BrokenSubjectsError(summary)
    refuse_twins(records, out / "manifest.json")
    return summary


def _check_out(source: Path, out: Path, settings: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """The settings of the store: these, with the colors of the store that is there, so that its digest stays."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot make this folder: {error.strerror}", hint="choose another one") from error
    manifest = out / "manifest.json"
    if not os.path.lexists(manifest):
        return settings
    if not is_manifest(manifest):
        raise UsageError(
            f"{manifest}: not that of a slice store", hint="move it elsewhere, or name another folder"
        )
    if overwrite:
        return settings
    content = read_manifest(out)
    found: dict[str, Any] = dict(content["settings"])
    if LabelSet.from_json(found["labels"], str(manifest)) == LabelSet.from_json(settings["labels"]):
        settings = settings | {"labels": found["labels"]}
    if changed := _changed(found, settings):
        raise UsageError(f"{out}: the store there was made with {changed}", hint=_ANEW)
    before = Path(content.get("source") or source)
    if before.is_dir() and not before.samefile(source):
        raise UsageError(f"{out}: the store there is of {before}, not of {source}", hint=_ANEW)
    return settings


_ANEW = "name another folder, or make it again with `overwrite`"


def _changed(found: dict[str, Any], settings: dict[str, Any]) -> str:
    """The first setting that is another one now, and both values; empty where none is."""
    key = next((key for key in settings | found if found.get(key) != settings.get(key)), None)
    return f"{key} {_short(found.get(key))}, not {_short(settings.get(key))}" if key else ""


def _short(setting: object) -> str:
    return str(setting["name"] if isinstance(setting, dict) and "name" in setting else setting)


@dataclass(frozen=True, slots=True)
class _Task:
    source: Path
    out: Path
    settings: Settings
    known: dict[str, Any]
    datasets: Mapping[Path, Given]
    overwrite: bool
    has_manifest: bool

    def __call__(self, case: SourceCase) -> Literal["made", "kept", "mended"] | CTSynthError:
        """Makes a subject, unless it is whole and up to date; the error, of whatever kind, if it cannot be made.

        Raises:
            RunError: It cannot be written, and so no other can.
        """
        own, window, size = self.settings.labels, self.settings.window, self.settings.size
        try:
            found = self._found(case)
        except Exception as error:
            return explain(error, f"subject {case.name}")
        try:
            record = self._record(case)
            is_current = record.items() <= found.items() and record.get(NAMES) == found.get(NAMES)
            if is_current and is_whole(self.out, found):
                return "kept"
            refuse_strangers(self.out, case.split, case.name)
            hu, labels, geometry = read_pair(case, own, self.datasets.get(case.label.parent))
            done = complete(labels, own, partial(body_mask, hu, geometry.spacing), self.settings.unmatched)
            ct = to_slices(window.clip(hu), size, "ct", air=window.air)
            mask = to_slices(done.voxels, size, "labels")
            if own.tissues:
                mask = split_body(mask, hu, geometry.spacing, own)
        except Exception as error:
            if isinstance(error, DataError):
                self._remove(case, SPLITS)
            return explain(error, f"subject {case.name}")
        record |= {"geometry": geometry.as_json()}
        record |= {"unmatched": dict(labels.lost)} if labels.lost else {}
        record |= {"stray_body": done.stray} if done.stray else {}
        write_subject(self.out, record, self.known, ct, mask)
        self._remove(case, [split for split in SPLITS if split != case.split])
        return "mended" if is_current else "made"

    def _found(self, case: SourceCase) -> dict[str, Any]:
        """The record of the subject that is there; empty where there is none, or it is to be made again.

        Raises:
            DataError: It was made with other settings, and no manifest says that the store has these.
        """
        found = None if self.overwrite else read_subject(self.out, case.split, case.name)
        if found is None:
            return {}
        settings, record = found
        changed = _changed(settings, self.known)
        if changed and self.has_manifest:
            return {}
        if changed:
            raise DataError(f"{self.out / case.split / case.name}: made with {changed}", hint=_ANEW)
        return record

    def _record(self, case: SourceCase) -> dict[str, Any]:
        if not case.label.is_file():
            raise DataError(
                f"{case.label}: no label volume for {case.image}", hint="add it, or take the image away"
            )
        record: dict[str, Any] = {"name": case.name, "split": case.split}
        for kind, path in (("image", case.image), ("label", case.label)):
            inside = path.is_relative_to(self.source)
            record[kind] = (path.relative_to(self.source) if inside else path.resolve()).as_posix()
            try:
                record[f"{kind}_sha256"] = sha256(path)
            except OSError as error:
                raise DataError(f"{path}: cannot read it: {error.strerror}") from error
        given = self.datasets.get(case.label.parent)
        if given and not self.settings.labels.numbers_like(given.names):
            record[NAMES] = given.as_json()
        return record

    def _remove(self, case: SourceCase, splits: Iterable[str]) -> None:
        for split in splits:
            remove(self.out, split, case.name)
