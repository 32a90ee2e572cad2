"""Settings as frozen dataclasses, read from presets, TOML and the command line; unknown names are refused."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from ctsynth.device import Precision
from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json

SCHEMA = 1
"""Of config.json; a checkpoint of a later one is refused."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How to train. The defaults are the paper's: Adam at a constant rate, batch 16, 150,000 iterations."""

    iterations: int = 150_000
    """Optimizer steps."""

    epochs: int | None = None
    """Passes over the data set; where given, ``iterations`` follows from it and the number of slices."""

    batch_size: int = 16
    """Slices a step."""

    accumulate: int = 1
    """Parts that a batch is worked through in, to save memory."""

    lr: float | None = None
    """Learning rate; the method's own where None."""

    betas: tuple[float, float] | None = None
    """Adam's; the method's own where None."""

    lr_schedule: Literal["constant", "cosine"] = "constant"
    """``cosine`` falls to 2 % of the rate at the last iteration."""

    warmup: int = 0
    """Iterations over which the rate rises linearly from zero."""

    clip_norm: float = 0.0
    """Largest gradient norm; 0 does not clip."""

    ema: float = 0.9999
    """Decay a step of the averaged weights that are sampled from; min(ema, (1 + step) / (10 + step)) early on."""

    norm_batches: int = 50
    """Batches that the averaged weights take batch normalization's statistics from; 0 copies the raw weights'."""

    seed: int = 0
    """Of the initial weights, the order of the slices and every draw."""

    save_every: int = 5_000
    """Iterations between checkpoints."""

    keep_every: int = 25_000
    """Checkpoints at multiples of this are kept; of the others the newest two."""

    sample_every: int = 5_000
    """Iterations between sample sheets."""

    log_every: int = 50
    """Iterations that a row of metrics.jsonl sums up."""

    precision: Precision = "auto"
    """``auto`` is bf16 on a GPU that has it, fp32 elsewhere."""

    compile: bool = False
    """Compile the networks with torch.compile."""

    checkpointing: bool = False
    """Compute residual blocks again in the backward pass instead of keeping what they computed."""

    def __post_init__(self) -> None:
        for name in (
            "iterations",
            "batch_size",
            "accumulate",
            "save_every",
            "keep_every",
            "sample_every",
            "log_every",
            "epochs",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_size % self.accumulate:
            raise UsageError(f"accumulate ({self.accumulate}) must divide batch_size ({self.batch_size})")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must be within [0, 1), not {self.ema}")
        if (self.lr is not None and self.lr <= 0) or min(self.warmup, self.clip_norm, self.norm_batches) < 0:
            raise UsageError("lr must be above 0; warmup, clip_norm and norm_batches must not be negative")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed must be within 0..2^63 - 1, not {self.seed}")


MAY_CHANGE = frozenset(
    {
        "iterations",
        "epochs",
        "accumulate",
        "save_every",
        "keep_every",
        "sample_every",
        "log_every",
        "precision",
        "compile",
        "checkpointing",
    }
)
"""Training settings that a resumed run may change; the others make another run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything a checkpoint was made with, resolved: the content of config.json."""

    method: str
    size: int
    """Side of a slice, pixels."""
    options: dict[str, Any]
    """The method's own settings, all of them."""
    training: TrainingConfig
    labels: dict[str, Any]
    """The label set, as ``LabelSet.as_json``."""
    level: float
    width: float
    """Of the window, HU."""
    preset: str
    data: dict[str, Any] = field(default_factory=dict)
    """The store it was trained on: path, digest, subjects, slices."""
    phases: dict[str, Any] = field(default_factory=dict)
    """Learning rate and betas of each optimizer, as they came out."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of a checkpoint: of the files beside its config.json."""
    version: str = ""
    schema: int = SCHEMA

    def as_json(self) -> dict[str, Any]:
        """What ``read`` reads back, as it reads it: lists for tuples."""
        content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return content

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Reads config.json.

        Raises:
            DataError: It is missing, of a later schema, or no config.json of ours.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else type(content).__name__
            raise DataError(f"{path}: schema {found!r}, this version reads {SCHEMA}", hint="update ctsynth")
        return build(cls, content, str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a configuration file: ``method``, ``preset``, ``[training]`` and ``[options]``.

    Raises:
        UsageError: No such file, no TOML, or an unknown key at the top.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error
    kinds = {"method": str, "preset": str, "training": dict, "options": dict}
    if unknown := sorted(set(content) - set(kinds)):
        raise UsageError(f"{path}: unknown key {unknown[0]!r}", hint=f"known: {', '.join(kinds)}")
    for key, value in content.items():
        if not isinstance(value, kinds[key]):
            wanted = "a string" if kinds[key] is str else f"a table: [{key}]"
            raise UsageError(f"{path}: {key} is {value!r}, wanted {wanted}")
    return content


def build(cls: type[T], values: Mapping[str, Any], source: str) -> T:
    """An instance of a configuration dataclass from parsed JSON or TOML.

    Args:
        cls: The dataclass.
        values: Its fields; those left out take their defaults.
        source: Where the values come from, for messages.

    Raises:
        UsageError: A key that the dataclass does not have, or a value of another type.
    """
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UsageError(f"{source}: unknown key {key!r}", hint=f"known: {', '.join(known)}")
    try:
        return cls(**{key: _cast(hints[key], value, f"{source}: {key}") for key, value in values.items()})
    except TypeError as error:
        raise UsageError(f"{source}: {error}") from error


def _cast(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401  any type, any value
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return (
            None if value is None else _cast(next(part for part in parts if part is not type(None)), value, where)
        )
    if origin is Literal:
        if value not in parts:
            raise UsageError(f"{where} is {value!r}, wanted one of {', '.join(map(str, parts))}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        inner = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(inner) == len(value):
            return tuple(_cast(part, item, where) for part, item in zip(inner, value, strict=True))
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(typing.cast(type, hint), value, where)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, origin or hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise UsageError(f"{where} is {value!r}, wanted {getattr(hint, '__name__', hint)}")
