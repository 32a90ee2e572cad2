"""Checkpoints: whole or absent, found by name, refused when damaged.

RUN/checkpoints/step_000150000/ holds model.safetensors, ema.safetensors, config.json and trainer.pt (the
optimizers); RUN/latest names the newest.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ctsynth import plugins, trainable
from ctsynth.config import RunConfig, build, sealed
from ctsynth.data.window import Window
from ctsynth.device import memory
from ctsynth.errors import DataError, RunError, UsageError, about, is_out_of_memory
from ctsynth.files import atomic, read_json, sha256, write_json, write_text
from ctsynth.labels import LabelSet
from ctsynth.methods.base import Method
from ctsynth.trainable import SEGMENTERS, TrainableModel
from ctsynth.training import trainer_file, weights_file
from ctsynth.training.weights_file import ANOTHER

log = logging.getLogger(__name__)

FILES = frozenset({"model.safetensors", "ema.safetensors", "config.json", "trainer.pt"})
"""Files of a checkpoint."""


def save(
    run: Path, step: int, model: nn.Module, ema: nn.Module, config: RunConfig, trainer: Mapping[str, Any]
) -> Path:
    """Writes RUN/checkpoints/step_N, whole or not at all, then points RUN/latest at it.

    Its config.json holds the SHA-256 of the other files and its own, so that one damaged later is known.

    Raises:
        RunError: It cannot be written; what was there before stays.
    """
    path, before = path_of(run, step), saved(run)
    if path.exists() and not is_own(path):
        raise RunError(f"{path}: it holds what is not of a checkpoint", hint="move it elsewhere, then go on")
    try:
        with atomic(path) as partial:
            partial.mkdir()
            hashes = {
                name: weights_file.save(module, partial / name)
                for name, module in (("ema.safetensors", ema), ("model.safetensors", model))
            }
            hashes[trainer_file.NAME] = trainer_file.save(trainer, partial / trainer_file.NAME)
            write_json(partial / "config.json", sealed(replace(config, sha256=hashes)))
        point(run, path)
    except RunError as error:
        kept = (
            f"the checkpoint of step {step_of(before[-1])} is still there" if before else "there is none before it"
        )
        raise RunError(f"{error.message}; {kept}", hint=error.hint) from error
    return path


def point(run: Path, path: Path) -> None:
    """Makes RUN/latest name a checkpoint."""
    if _latest(run) != path.name:
        write_text(run / "latest", path.name + "\n")


def _latest(run: Path) -> str:
    pointer = run / "latest"
    return pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else ""


def path_of(run: Path, step: int) -> Path:
    """Where a run's checkpoint of a step lies."""
    return run / "checkpoints" / f"step_{step:09d}"


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps behind a checkpoint, from its name."""
    return int(checkpoint.name.removeprefix("step_"))


def saved(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first; a folder of another name, as step_000000003_backup, is none."""
    folders = (run / "checkpoints").glob("step_*")
    return sorted(path for path in folders if is_step(path) and path.is_dir())


def is_step(path: Path) -> bool:
    """Whether a path is named as a run's checkpoints are."""
    return re.fullmatch(r"step_\d{9}", path.name) is not None


def is_own(path: Path) -> bool:
    """Whether a folder holds nothing but a checkpoint's files, so that it may be deleted."""
    return path.is_dir() and not path.is_symlink() and {file.name for file in path.iterdir()} <= FILES


def prune(run: Path, step: int, keep_every: int) -> None:
    """Deletes what is neither among the newest two checkpoints up to ``step`` nor at a multiple of ``keep_every``.

    Those beyond it are damaged ones that the run will come to again; one that holds more than a checkpoint stays.
    """
    for path in [path for path in saved(run) if step_of(path) <= step][:-2]:
        if step_of(path) % keep_every and is_own(path):
            shutil.rmtree(path)


def clear_leftovers(run: Path) -> None:
    """Removes what a process that was killed was still writing."""
    for folder in (run, run / "checkpoints", run / "samples"):
        for path in folder.glob(".partial-[0-9]*-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def find(model: Path | None, runs: Path = Path("runs")) -> Path:
    """The checkpoint that a path means: a checkpoint folder, a run's latest, or the latest of the newest run.

    A segmenter's run is taken only by its name.

    Raises:
        UsageError: There is none.
    """
    hint = "train one first: ctsynth train --cond mask"
    if model is None:
        latest = sorted(runs.glob("*/latest"), key=lambda path: path.stat().st_mtime, reverse=True)
        model = next((path.parent for path in latest if not _is_segmenter(path.parent)), None)
        if model is None:
            hint += ", or name a run, such as demo/runs/ddpm-mask"
            raise UsageError(f"no run with a checkpoint in {runs}/", hint=hint)
    if (model / "config.json").is_file() and (model / "model.safetensors").is_file():
        return model
    if not model.is_dir():
        raise UsageError(f"{model}: no such run or checkpoint", hint=hint)
    if there := saved(model):
        return next((path for path in there if path.name == _latest(model)), there[-1])
    raise UsageError(f"no checkpoint in {model}", hint=hint)


def _is_segmenter(run: Path) -> bool:
    file = run / "config.json"
    content = read_json(file) if file.is_file() else None
    return isinstance(content, dict) and content.get("method") in plugins.names(SEGMENTERS)


@dataclass(frozen=True, slots=True)
class Trained:
    """A method with its weights, ready to draw.

    Args:
        method: In evaluation mode, on the device.
        config: What it was trained with.
        labels: The label set that it knows.
        path: The checkpoint's folder.
        digest: SHA-256 of its weights file.
    """

    method: Method
    config: RunConfig
    labels: LabelSet
    path: Path
    digest: str

    @property
    def step(self) -> int | None:
        """Optimizer steps behind it, where its folder's name says."""
        return step_of(self.path) if is_step(self.path) else None


def make_method(config: RunConfig) -> Method:
    """The method that a config.json describes, with its initial weights drawn from the run's seed.

    Raises:
        UsageError: It describes a segmenter.
    """
    method = make_model(config)
    if not isinstance(method, Method):
        raise UsageError(
            f"{config.method} is a segmenter: it finds organs and draws no slices",
            hint="name a run of ctsynth train; a segmenter's is for ctsynth score --segmenter",
        )
    return method


def make_model(config: RunConfig) -> TrainableModel:
    """The method or segmenter that a config.json describes, with weights drawn from the run's seed."""
    cls = trainable.find_model(config.method)
    options = build(cls.Options, config.options, f"options of {config.method}")
    with torch.random.fork_rng(devices=[]), _within_memory(config.method):
        torch.manual_seed(config.training.seed)
        labels = LabelSet.from_json(config.labels)
        known = labels if cls.knows_tissues else labels.without_tissues
        return cls(options, num_classes=known.num_classes, size=config.size)


@contextmanager
def _within_memory(method: str) -> Iterator[None]:
    """Refuses parameters that this machine has no memory for, before anything is written to them."""
    limit, used = memory(), 0

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal used
        used += parameter.nbytes if parameter is not None else 0
        if used > limit:
            raise MemoryError

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(
            f"{method}: its parameters alone do not fit into memory ({limit / 2**30:.0f} GiB here)",
            hint="choose fewer channels, multipliers or levels",
        ) from error
    finally:
        hook.remove()


def load(checkpoint: Path, device: torch.device, *, raw: bool = False) -> Trained:
    """Loads a checkpoint to draw from: the averaged weights, or the raw ones.

    Raises:
        DataError: A file of it is missing or damaged, or holds the weights of another network.
    """
    config = RunConfig.read(checkpoint / "config.json")
    with about(checkpoint / "config.json"):
        Window(config.level, config.width)
        labels, method = LabelSet.from_json(config.labels), make_method(config)
    digest = make_ready(method, checkpoint, device, raw=raw)
    return Trained(method, config, labels, checkpoint, digest)


def make_ready(model: TrainableModel, checkpoint: Path, device: torch.device, *, raw: bool = False) -> str:
    """Loads a checkpoint's weights into a model, in evaluation mode on the device; returns their file's SHA-256.

    Raises:
        DataError: The file is missing or damaged, or holds the weights of another network.
        UsageError: The raw weights of an exported model.
    """
    config = RunConfig.read(checkpoint / "config.json")
    if raw and is_exported(config):
        raise UsageError(f"{checkpoint}: `raw`: an exported model has its averaged weights alone")
    weights = checkpoint / "model.safetensors" if raw else averaged(checkpoint, config)
    weights_file.load(model, weights)
    digest = sha256(weights)
    _refuse_other_bytes(weights, digest, config)
    model.to(device).eval().requires_grad_(False)
    if device.type == "cpu":  # on a GPU group norms copy to NCHW and back: 1.4 times as long
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return digest


def is_exported(config: RunConfig) -> bool:
    """Whether a config.json is that of ``ctsynth export``, beside which the averaged weights lie alone."""
    return set(config.sha256) == {"model.safetensors"}


def averaged(checkpoint: Path, config: RunConfig) -> Path:
    """The file of a checkpoint's averaged weights."""
    return checkpoint / ("model.safetensors" if is_exported(config) else "ema.safetensors")


def verify(checkpoint: Path) -> RunConfig:
    """Compares the files of a checkpoint with the SHA-256 that its config.json holds, and returns that.

    Raises:
        DataError: One is missing, or is not what was saved.
        UsageError: Its config.json is none.
    """
    config = RunConfig.read(checkpoint / "config.json")
    for name in config.sha256:
        if name not in FILES:
            raise DataError(f"{checkpoint / 'config.json'}: {name!r} is no file of a checkpoint", hint=ANOTHER)
        try:
            _refuse_other_bytes(checkpoint / name, sha256(checkpoint / name), config)
        except OSError as error:
            raise DataError(f"{checkpoint / name}: cannot read it: {error.strerror}", hint=ANOTHER) from error
    return config


def _refuse_other_bytes(file: Path, digest: str, config: RunConfig) -> None:
    if digest != config.sha256.get(file.name, digest):
        raise DataError(f"{file}: damaged: its SHA-256 is not the one in config.json", hint=ANOTHER)
