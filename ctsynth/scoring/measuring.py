"""Measures one subject by all metrics and keeps the records; a task for worker processes."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctsynth.data.store import Store, Subject
from ctsynth.errors import CTSynthError, UsageError, WriteError, explain
from ctsynth.files import code_digest, sha256
from ctsynth.metrics.base import Metric, Pair
from ctsynth.scoring.pairs import read_pair
from ctsynth.scoring.records import Arrays, Records


class Case(NamedTuple):
    """A subject and its synthetic volume."""

    subject: Subject
    file: Path


@dataclass(frozen=True)
class Measuring:
    """Measures what is not yet measured of a case, or not of these very files and settings.

    Args:
        store: What the slices' window, size and labels are; its subjects are not needed.
        folder: Where the records lie, FOLDER/METRIC/SUBJECT.npz.
        metrics: By name.
        overwrite: Measure again what has been measured.
    """

    store: Store
    folder: Path
    metrics: Mapping[str, Metric]
    overwrite: bool = False

    def of(self, *, parallel: bool) -> Measuring:
        """The same for the metrics that worker processes may measure, or for the others."""
        chosen = {name: metric for name, metric in self.metrics.items() if metric.parallel == parallel}
        return replace(self, metrics=chosen)

    @property
    def parallel(self) -> bool:
        """Whether worker processes may do it."""
        return all(metric.parallel for metric in self.metrics.values())

    def __call__(self, case: Case) -> bool | CTSynthError:
        """Whether there was something to measure; the error if it is this case's alone.

        Raises:
            RunError: A record cannot be written, and so no other can.
            UsageError: A metric measured what is no record.
        """
        try:
            return self._measure(case)
        except (WriteError, UsageError):
            raise
        except Exception as error:
            return explain(error, str(case.file))

    def _measure(self, case: Case) -> bool:
        """A function of its own, so that a subject is out of memory before the next one is read."""
        name = case.subject.name
        records = {metric: Records(self.folder / metric, [name]) for metric in self.metrics}
        keys = self._keys(case)
        lacking = [metric for metric, key in keys.items() if self.overwrite or not records[metric].has(name, key)]
        if lacking:
            pair = read_pair(case.subject, case.file, self.store)
            for metric in lacking:
                records[metric].keep(name, keys[metric], measured(self.metrics[metric], pair))
        return bool(lacking)

    def _keys(self, case: Case) -> dict[str, str]:
        """By metric, a SHA-256 of everything that its record of a case depends on."""
        store = self.store
        pair = {
            "synthetic": sha256(case.file),
            "real": [case.subject.record[key] for key in ("ct_sha256", "mask_sha256", "geometry")],
            "window": [store.window.level, store.window.width, store.size],
            "labels": store.labels.as_json(),
            "ctsynth": code_digest(),
        }
        keys = {}
        for name, metric in self.metrics.items():
            own = {
                "code": sha256(Path(inspect.getfile(type(metric)))),
                "settings": metric.settings,
                "inputs": [sha256(path) for path in metric.inputs(case.subject.name)],
            }
            keys[name] = hashlib.sha256(json.dumps(pair | own, sort_keys=True).encode()).hexdigest()
        return keys


def measured(metric: Metric, pair: Pair) -> Arrays:
    """What a metric measures of a pair, as arrays.

    Raises:
        UsageError: A part of it is neither numbers nor text.
    """
    record = {name: np.asarray(values) for name, values in metric.measure(pair).items()}
    for name, values in record.items():
        if values.dtype.kind not in "biufU":
            raise UsageError(
                f"{metric.title}: what it measures of {pair.subject} holds {name!r} of {values.dtype}",
                hint="a metric's measure() returns numbers or text; NaN stands for none",
            )
    return record
