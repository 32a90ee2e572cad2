"""Settings as frozen dataclasses, read from presets, TOML and the command line; unknown names are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from ctsynth.device import Precision
from ctsynth.errors import DataError, UsageError
from ctsynth.files import read_json
from ctsynth.schema import Help, Range, Share, Weight, check, check_named, parse, read

log = logging.getLogger(__name__)

SCHEMA = 1
"""Schema of config.json; a checkpoint with a later one is refused."""

T = TypeVar("T")

Iterations = Annotated[int, Range(1, 999_999_999)]  # the names of checkpoints have nine digits
LearningRate = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[int, Range(0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How to train. The defaults are the paper's: Adam at a constant rate, batch 16, 150,000 iterations."""

    iterations: Annotated[Iterations, Help("Optimizer steps.", "150000; GANs 300 epochs; tiny 1000")] = 150_000

    epochs: Annotated[
        Iterations | None, Help("Passes over the data set, instead of --iterations.", "none; GANs 300")
    ] = None
    """``iterations`` follows from it and the number of slices."""

    batch_size: Annotated[
        int,
        Range(1, 65_536),
        Help("Slices per step, over all GPUs; edm-volume: a multiple of its window.", "16; tiny 8"),
    ] = 16

    accumulate: Annotated[int, Range(1), Help("Compute a batch in this many parts, to save memory.")] = 1

    lr: Annotated[LearningRate | None, Help("Learning rate.", "the method's own")] = None

    betas: Annotated[tuple[Share, Share] | None, Help("Adam's two decay rates.", "the method's own")] = None

    lr_schedule: Annotated[
        Literal["constant", "cosine"], Help("cosine falls to 2 % of the rate at the last iteration.")
    ] = "constant"

    warmup: Annotated[NotNegative, Help("Iterations over which the rate rises linearly from zero.")] = 0

    clip_norm: Annotated[Weight, Help("Largest gradient norm; 0 does not clip.")] = 0.0

    ema: Annotated[Share, Help("Decay of the averaged weights.", "0.9999; tiny 0.999")] = 0.9999
    """A step; min(ema, (1 + step) / (10 + step)) early on."""

    norm_batches: Annotated[
        NotNegative,
        Help(
            "Batches to compute the averaged weights' batch normalization statistics from; 0 copies the raw ones."
        ),
    ] = 50

    seed: Annotated[int, Range(0, 2**63 - 1), Help("Same seed, same weights.")] = 0
    """Seeds the initial weights, the order of the slices and every draw."""

    save_every: Annotated[Iterations, Help("Steps between checkpoints.", "5000; tiny 250")] = 5_000

    keep_every: Annotated[
        Iterations,
        Help("Keep checkpoints at multiples of this many steps; of the others the newest two.", "25000; tiny 250"),
    ] = 25_000

    sample_every: Annotated[Iterations, Help("Steps between sample sheets.", "5000; tiny 250")] = 5_000

    log_every: Annotated[Iterations, Help("Steps that a row of metrics.jsonl averages.", "50; tiny 10")] = 50

    tensorboard: Annotated[bool, Help(r"Also write RUN/tensorboard; needs the extra \[tensorboard].")] = False

    tissue_dropout: Annotated[
        float,
        Range(0, 1),
        Help("Store with tissues: share of slices trained with the body as one class.", "0.2; tiny 0.7"),
    ] = 0.2
    """So that a model can draw from both."""

    precision: Annotated[Precision, Help("auto is bf16 on a GPU that has it, else fp32.")] = "auto"

    compile: Annotated[
        bool,
        Help(
            "Compile the networks: minutes at the first step, then 1.5 times as fast on a GPU.",
            "on a GPU, for 5000 iterations or more",
        ),
    ] = False

    checkpointing: Annotated[
        bool,
        Help("Diffusion models: compute blocks twice; a third of the memory for activations, a fifth more time."),
    ] = False

    def __post_init__(self) -> None:
        check(self)
        if self.batch_size % self.accumulate:
            raise UsageError(f"`accumulate` ({self.accumulate}) must divide `batch_size` ({self.batch_size})")

    def check_ranks(self, ranks: int, window: int = 1) -> None:
        """Refuses a number of ranks that cannot share the batches, or a batch of no whole windows.

        Raises:
            UsageError: There is a part of a batch that they cannot.
        """
        check_ranks(self.batch_size, self.accumulate, ranks, window)


def check_ranks(batch_size: int, accumulate: int, ranks: int, window: int = 1) -> None:
    """Refuses a number of ranks that cannot share every part of a batch, in whole windows.

    Raises:
        UsageError: They cannot.
    """
    if batch_size % (accumulate * ranks * window):
        shares = f"`accumulate` ({accumulate}) times the ranks ({ranks})"
        shares += f" times the window ({window} slices)" if window > 1 else ""
        raise UsageError(f"`batch_size` ({batch_size}) must divide by {shares}")


MAY_CHANGE = frozenset(
    {
        "iterations",
        "epochs",
        "accumulate",
        "save_every",
        "keep_every",
        "sample_every",
        "log_every",
        "tensorboard",
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
    size: Annotated[int, Range(8, 4096)]
    """Side of a slice, pixels."""
    options: dict[str, Any]
    """The method's own settings, all of them."""
    training: TrainingConfig
    labels: dict[str, Any]
    """The label set, as ``LabelSet.as_json``."""
    level: Annotated[float, Range(-32_768, 32_767)]
    width: Annotated[float, Range(0, 65_535, above=True)]
    """Level and width of the window, HU."""
    preset: str
    data: dict[str, Any] = field(default_factory=dict)
    """The store it was trained on: path, digest, subjects, slices."""
    start: dict[str, Any] = field(default_factory=dict)
    """The checkpoint that it began from: path, checkpoint, sha256; empty for one that began from chance."""
    phases: dict[str, Any] = field(default_factory=dict)
    """Learning rate and betas of each optimizer, as they came out."""
    sha256: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files beside a checkpoint's config.json."""
    version: str = ""
    schema: int = SCHEMA

    @property
    def window(self) -> int:
        """How many slices the method learns from together, where that is a setting of its own."""
        return int(self.options.get("window", 1))

    def as_json(self) -> dict[str, Any]:
        """What ``read`` reads back, as it reads it: lists for tuples."""
        content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return content

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Reads config.json.

        Raises:
            DataError: It is missing, damaged, of a later schema, or no config.json of ours.
        """
        config = read(path, cls, schema=SCHEMA)
        hashes = dict(config.sha256)
        if hashes.pop(CONFIG, None) not in (None, _digest(read_json(path))):
            hint = "use another checkpoint of the run"
            raise DataError(f"{path}: damaged: its SHA-256 is not the one that it holds", hint=hint)
        return dataclasses.replace(config, sha256=hashes)


CONFIG = "config.json"
"""Among the SHA-256 that a checkpoint's config.json holds: that of its own content."""


def sealed(config: RunConfig) -> dict[str, Any]:
    """A checkpoint's config.json: the settings, and among the SHA-256 that of this very content."""
    content = config.as_json()
    content["sha256"][CONFIG] = _digest(content)
    return content


def _digest(content: dict[str, Any]) -> str:
    """The SHA-256 of a config.json's content but for that hash, however it is laid out."""
    hashes = {name: digest for name, digest in content.get("sha256", {}).items() if name != CONFIG}
    return hashlib.sha256(json.dumps(content | {"sha256": hashes}, sort_keys=True).encode()).hexdigest()


def read_settings(path: Path) -> dict[str, Any]:
    """Reads what ``--config`` names: TOML, or the config.json of a run, whose settings are all taken.

    Raises:
        UsageError: As of ``read_toml``.
        DataError: It is no config.json of a run.
    """
    if path.suffix.lower() != ".json":
        return read_toml(path)
    run = RunConfig.read(path)
    if run.start:
        log.warning("%s: that run began from %s; say `from` for this one, too", path, run.start.get("path"))
    training = dataclasses.asdict(run.training)
    del training["iterations" if training["epochs"] else "epochs"]  # the one follows from the other
    return {"method": run.method, "preset": run.preset, "training": training, "options": dict(run.options)}


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a configuration file: ``method``, ``preset``, ``[training]`` and ``[options]``.

    Raises:
        UsageError: No such file, no TOML, an unknown key, or a value that a training setting cannot have.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot read it: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error
    kinds = {"method": str, "preset": str, "training": dict, "options": dict}
    if unknown := sorted(set(content) - set(kinds)):
        raise UsageError(f"{path}: unknown key {unknown[0]!r}", hint=f"known: {', '.join(kinds)}")
    for key, value in content.items():
        if not isinstance(value, kinds[key]):
            wanted = "a string" if kinds[key] is str else f"a table: [{key}]"
            raise UsageError(f"{path}: {key} is {value!r}, wanted {wanted}")
    check_named(TrainingConfig, content.get("training", {}), str(path), "training")
    return content


def build(cls: type[T], values: Mapping[str, Any], source: str) -> T:
    """An instance of a configuration dataclass from the command line or TOML; what is left out has its default.

    Args:
        cls: The dataclass.
        values: Its fields.
        source: Where the values come from, for messages.

    Raises:
        UsageError: A key that the dataclass does not have, or a value of another type or out of bounds.
    """
    return parse(cls, values, source, UsageError)
