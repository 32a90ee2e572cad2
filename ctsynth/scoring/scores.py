"""What ``ctsynth score`` found: the form of scores.json, which docs/scores.schema.json describes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json, write_json
from ctsynth.labels import LabelSet
from ctsynth.outputs import refuse_foreign
from ctsynth.schema import Range, parse, read
from ctsynth.scoring.result import Reference as Reference
from ctsynth.scoring.result import Result as Result
from ctsynth.scoring.result import Value as Value
from ctsynth.tissues import SUFFIX

SCHEMA = 1
"""Schema of scores.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where the pictures of a report come from.

    Args:
        store: Folder of the slice store.
        synthetic: Each subject's volume.
    """

    store: Path
    synthetic: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Everything that was found about one set of synthetic volumes.

    Args:
        name: What to call the set in tables.
        split: ``train`` or ``test``.
        subjects: How many were scored.
        slices: How many they have together.
        missing: Subjects of the split without a volume.
        labels: The store's label set.
        metrics: By name.
        left_out: Metrics that could not be computed here, and why.
        floor: Real train against real test.
        ceiling: The segmenter on the real windowed volumes.
        provenance: What the volumes were made with, where all agree, from the JSON beside them.
        settings: Settings of the scoring: window, size, bootstrap, digest of the store.
        versions: Versions of the programs.
        sources: Sources of the pictures.
        phantom: What is called real are phantoms, no CT of patients.
    """

    name: str
    split: str
    subjects: int
    slices: int
    missing: tuple[str, ...]
    labels: LabelSet
    metrics: Mapping[str, Result]
    left_out: Mapping[str, str]
    floor: Reference
    ceiling: Reference
    provenance: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    sources: Sources
    phantom: bool = False

    @property
    def from_tissues(self) -> bool:
        """Whether the volumes were drawn from tissues, which the paper's masks do not have."""
        return has_tissues(self.provenance) and self.provenance.get("tissues") != "none"

    def as_json(self, folder: Path | None = None) -> dict[str, Any]:
        """The content of scores.json; paths are relative to ``folder`` if given, else absolute."""

        def place(path: Path) -> str:
            return os.path.relpath(path.absolute(), folder.absolute()) if folder else str(path.absolute())

        return {
            "schema": SCHEMA,
            "name": self.name,
            "split": self.split,
            "subjects": self.subjects,
            "slices": self.slices,
            "phantom": self.phantom,
            "missing": list(self.missing),
            "labels": self.labels.as_json(),
            "metrics": {name: _result_json(result) for name, result in self.metrics.items()},
            "left_out": dict(self.left_out),
            "floor": asdict(self.floor),
            "ceiling": asdict(self.ceiling),
            "provenance": dict(self.provenance),
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "sources": {
                "store": place(self.sources.store),
                "synthetic": {name: place(path) for name, path in self.sources.synthetic.items()},
            },
        }

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Writes scores.json; the paths in it are relative to its folder.

        Args:
            path: Where to; scores of the same volumes with the same settings may be there, or fewer of them.
            overwrite: Any scores may be there.

        Raises:
            UsageError: There are other scores, or another file.
            RunError: It cannot be written.
        """
        content = self.as_json(path.parent)
        refuse_foreign(path, is_scores, "a file of scores")
        if path.exists() and not overwrite and (lost := _lost(read_json(path), content)):
            raise UsageError(
                f"{path}: holds {lost}, which would be lost",
                hint="name another file with `out`, or replace it with `overwrite`",
            )
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Reads scores.json.

        Raises:
            DataError: It is missing, of another schema, or no scores.json.
        """
        content = read(path, _File, schema=SCHEMA, hint="score again: ctsynth score SYNTHETIC")
        metrics = {name: parse(Result, one, f"{path}: metrics.{name}") for name, one in content["metrics"].items()}
        return cls(
            name=content["name"],
            split=content["split"],
            subjects=content["subjects"],
            slices=content["slices"],
            phantom=content.get("phantom", False),  # files of 0.1 do not have it
            missing=tuple(content["missing"]),
            labels=LabelSet.from_json(content["labels"], str(path)),
            metrics=metrics,
            left_out=content["left_out"],
            floor=parse(Reference, content["floor"], f"{path}: floor"),
            ceiling=parse(Reference, content["ceiling"], f"{path}: ceiling"),
            provenance=dict(content["provenance"]),
            settings=dict(content["settings"]),
            versions=content["versions"],
            sources=Sources(
                store=path.parent / content["sources"]["store"],
                synthetic={name: path.parent / place for name, place in content["sources"]["synthetic"].items()},
            ),
        )


class _Sampler(TypedDict):
    name: str
    steps: int
    guidance: NotRequired[float]


class Provenance(TypedDict):
    """The entries that are read from the JSON beside a volume; volumes of others may lack them."""

    method: NotRequired[str]
    model: NotRequired[str]
    iterations: NotRequired[Annotated[int, Range(0)] | None]
    sampler: NotRequired[_Sampler | None]


class _Settings(TypedDict):
    size: int


class _Sources(TypedDict):
    store: str
    synthetic: dict[str, str]


class _File(TypedDict):
    name: str
    split: str
    subjects: Annotated[int, Range(0)]
    slices: Annotated[int, Range(0)]
    phantom: NotRequired[bool]
    missing: list[str]
    labels: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    floor: dict[str, Any]
    ceiling: dict[str, Any]
    provenance: Provenance
    settings: _Settings
    versions: dict[str, str]
    sources: _Sources


def is_scores(path: Path) -> bool:
    """Whether a file is a scores.json, of whichever version."""
    try:
        content = read_json(path)
    except DataError:
        return False
    return isinstance(content, dict) and {"schema", "metrics", "sources"} <= content.keys()


def _lost(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What earlier scores hold and new ones do not; empty where these were made alike, or are more."""
    try:
        then, here = ((one["sources"], one["split"]) for one in (before, now))
        for name, place in then[0]["synthetic"].items():
            if here[0]["synthetic"].get(name) != place:
                return f"scores of {place}"
        if (then[0]["store"], then[1]) != (here[0]["store"], here[1]):
            return f"scores against {then[0]['store']}, {then[1]}"
        for name, result in before["metrics"].items():
            if name not in now["metrics"]:
                return name
            here = now["metrics"][name]["settings"]
            for key, value in result["settings"].items():
                if here.get(key) != value:
                    return f"{name} with {key} {value}, not {here.get(key)}"
    except (KeyError, TypeError, AttributeError):
        return "scores of another form"
    return ""


def _result_json(result: Result) -> dict[str, Any]:
    content = asdict(result)
    del content["variants"]
    return content | {"notes": list(result.notes)}


def has_tissues(provenance: Mapping[str, Any]) -> bool:
    """Whether volumes are of a model that draws from tissues and from the body as one class."""
    return str(provenance.get("label_set")).endswith(SUFFIX)
