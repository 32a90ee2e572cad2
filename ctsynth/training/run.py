"""Trains a run on a store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from ctsynth.config import RunConfig
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Store
from ctsynth.stop import Stop
from ctsynth.training.distributed import ALONE, World
from ctsynth.training.loop import Trainer
from ctsynth.training.sheet import SampleSheet

log = logging.getLogger(__name__)


def train(
    store: Store,
    run: Path,
    config: RunConfig,
    *,
    device: torch.device,
    stop: Stop,
    progress: Callable[..., None] = lambda done, note="": None,
    world: World = ALONE,
) -> None:
    """Trains a run, or continues it.

    Args:
        store: Its training slices, and the test masks of the sample sheets.
        run: The run's folder.
        config: From ``configure``.
        device: Where.
        stop: Tells when to save and stop.
        progress: Called with the steps done and a few words.
        world: The ranks that train it together; call it on each.

    Raises:
        Interrupted: A signal came and the run was saved.
        RunError: A loss is not finite, or a checkpoint cannot be written.
    """
    precision = config.training.precision
    sheet = None
    if world.is_first:
        test = SliceDataset(store, "test")
        if not len(test):
            log.warning("%s: no test subjects: sample sheets show training masks", store.root)
        shown = test if len(test) else SliceDataset(store, "train")
        sheet = SampleSheet(shown, store.labels, device=device, precision=precision)
    dataset = SliceDataset(store, "train")
    Trainer(run, config, dataset, sheet, device=device, precision=precision, world=world).train(stop, progress)
