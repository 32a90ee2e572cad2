"""Runs small enough to train in a second, and the command line in this process."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import torch
from typer.testing import CliRunner

from ctsynth import trainable
from ctsynth.cli.app import app
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Store
from ctsynth.stop import Stop
from ctsynth.training.configure import configure
from ctsynth.training.distributed import ALONE
from ctsynth.training.loop import Trainer
from ctsynth.training.run import train

CPU = torch.device("cpu")

OPTIONS = {"channels": 8, "multipliers": [1, 2], "res_blocks": 1, "attention": [], "patch": 2}
"""Of ddpm-concat; the guided methods also take encoder_channels."""

SMALL = {
    "sdm": OPTIONS | {"head_channels": 4},
    "pix2pix": {"channels": 4, "discriminator_channels": 4},
    "spade": {"channels": 4, "multipliers": [4, 2, 1], "hidden": 8, "discriminator_channels": 4, "vgg": "no"},
    "unet2d": {"channels": 8, "multipliers": [1, 2, 2]},
    "edm": OPTIONS | {"heads": 4, "head_channels": 0, "encoder_channels": 8},
    "edm-volume": OPTIONS | {"heads": 4, "head_channels": 0, "encoder_channels": 8, "window": 2},
    "oasis": {"channels": 4, "multipliers": [4, 2, 1], "hidden": 8, "discriminator_channels": 8},
}
"""Of the other methods and the segmenter; their generators want slices of 32 x 32 and more."""

TRAINING = {
    "iterations": 6, "batch_size": 4, "save_every": 2, "sample_every": 1000, "log_every": 2, "lr": 1e-3,
    "norm_batches": 2,
}  # fmt: skip


def fit(
    store: Store, run: Path, method: str = "ddpm-concat", *, stop: Stop | None = None, options=(), pictures=False,
    world=ALONE, **training,
):  # fmt: skip
    """Trains a run in this process and returns its folder; sample sheets and loss.png only if asked for."""
    config = configure(
        store,
        method,
        preset=next(iter(trainable.find_model(method).presets)),
        options=SMALL.get(method, OPTIONS if method.startswith("ddpm") else {}) | dict(options),
        training=TRAINING | training,
        device=CPU,
    )
    if pictures:
        train(store, run, config, device=CPU, stop=stop or Stop())
    else:
        with mock.patch("ctsynth.figures.loss_curve"):
            dataset = SliceDataset(store, "train")
            trainer = Trainer(run, config, dataset, None, device=CPU, precision="fp32", world=world)
            trainer.train(stop or Stop())
    return run


def ctsynth(*words: object):
    """The command line, in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def settings(method: str = "ddpm-concat", **training: object) -> list[str]:
    """The small network and its training as words of ``ctsynth train``; a method of one's own has no options."""
    training = {"iterations": 6, "batch-size": 4, "save-every": 2, "sample-every": 1000, "lr": 1e-3} | training
    words = ["--method", method, "--preset", "paper", "--device", "cpu"]
    for key, value in SMALL.get(method, OPTIONS if method.startswith("ddpm") else {}).items():
        words += ["--set", f"{key}={value}"]
    for key, value in training.items():
        words += [f"--{key}", str(value)]
    return words


def weights(run: Path, step: int) -> tuple[bytes, bytes]:
    """The bytes of a checkpoint's weights: the raw ones, the averaged ones."""
    folder = run / "checkpoints" / f"step_{step:09d}"
    return (folder / "model.safetensors").read_bytes(), (folder / "ema.safetensors").read_bytes()


def labels_like(small_case) -> np.ndarray:
    """A small case's label volume with body: (32, 24, 6) RAS+ uint8."""
    return np.where((small_case.labels == 0) & (small_case.hu > -500), 16, small_case.labels).astype(np.uint8)
