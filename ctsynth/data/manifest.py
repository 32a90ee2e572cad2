"""What manifest.json and each subject.json of a slice store say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ctsynth.data.volume import GeometryJSON
from ctsynth.errors import DataError
from ctsynth.files import read_json
from ctsynth.schema import Range, read

SCHEMA = 1
"""Schema of manifest.json and subject.json."""

SPLITS = ("train", "test")


class SubjectRecord(TypedDict):
    """What the manifest says of a subject, besides what ``preprocess`` adds."""

    name: str
    split: Literal["train", "test"]
    geometry: GeometryJSON
    slices: int
    voxels: dict[str, int]
    ct_sha256: str
    mask_sha256: str
    label: NotRequired[str]
    label_names: NotRequired[dict[str, int]]
    unmatched: NotRequired[dict[str, int]]
    stray_body: NotRequired[int]
    image_sha256: NotRequired[str]
    label_sha256: NotRequired[str]


class _Settings(TypedDict):
    size: Annotated[int, Range(8, 4096)]
    level: float
    width: float
    labels: dict[str, Any]


class Manifest(TypedDict):
    """The content of manifest.json."""

    settings: _Settings
    subjects: list[SubjectRecord]
    source: NotRequired[str]
    phantom: NotRequired[bool]


class _SubjectFile(TypedDict):
    settings: dict[str, Any]
    subject: SubjectRecord


def read_manifest(root: Path) -> Manifest:
    """What a store's manifest.json says.

    Raises:
        DataError: It is missing, of another schema or of another form.
    """
    again = f"make the store again: ctsynth preprocess amos/ {root} --overwrite"
    return read(root / "manifest.json", Manifest, schema=SCHEMA, hint=again)


def is_manifest(path: Path) -> bool:
    """Whether a file is the manifest of a slice store, of whichever version.

    Raises:
        DataError: It is no JSON file.
    """
    content = read_json(path)
    return isinstance(content, dict) and {"schema", "settings", "subjects"} <= content.keys()


def read_subject(root: Path, split: str, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The settings and the record of a subject whose three files are there; None where they are not."""
    folder = root / split / name
    if not all((folder / file).is_file() for file in ("ct.npy", "mask.npy", "subject.json")):
        return None
    try:
        content = read(folder / "subject.json", _SubjectFile, schema=SCHEMA)
    except DataError:
        return None
    record = content["subject"]
    return (content["settings"], dict(record)) if (record["split"], record["name"]) == (split, name) else None
