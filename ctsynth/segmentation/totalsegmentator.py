"""TotalSegmentator (Wasserthal et al. 2023) through its own Python API: offline, its models loaded once."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np

from ctsynth import weights
from ctsynth.data.volume import Volume
from ctsynth.device import find_device
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.features.inception import import_torchvision
from ctsynth.labels import BACKGROUND, LabelSet
from ctsynth.segmentation.base import Segmentation, translate

log = logging.getLogger(__name__)

TASKS = {"default": "total", "fast": "total_fast"}
"""Its modes, 1.5 mm and 3 mm, and what their weights are called in ``ctsynth.weights``."""

WARMEST_AIR = -10
"""HU; a volume that is nowhere below has gray values for HU: air is -1000, and the lower end of any CT window."""

_QUIET = {
    "totalseg_id": "totalseg_ctsynth",
    "send_usage_stats": False,
    "prediction_counter": 0,
    "statistics_disclaimer_shown": True,
}
"""Its config.json. Without one it writes its own, and then sends statistics over the network after each volume."""


class TotalSegmentator:
    """Finds TotalSegmentator's ``total`` classes.

    The arithmetic is all its own and nnU-Net's. Three things differ from its command line: a model, once loaded,
    serves all volumes; nnU-Net runs in this process instead of spawning others for each volume; nothing is sent
    over the network.

    Args:
        mode: Which of its models: ``default`` (1.5 mm) or ``fast`` (3 mm).
        device: ``cuda``, ``mps`` or ``cpu``; ``auto`` is a GPU, and never the CPU.
    """

    name = "TotalSegmentator"

    def __init__(self, mode: str = "default", device: str = "auto") -> None:
        self.mode, self._wanted = mode, device
        self._models: dict[str, dict[str, Any]] = {}

    @classmethod
    def unavailable(cls, mode: str = "default", device: str = "auto") -> str | None:
        """None if it can run here; else why not, and what would mend that."""
        if importlib.util.find_spec("totalsegmentator") is None:
            return "TotalSegmentator is not installed: pip install 'ctsynth[totalsegmentator]'"
        if reason := weights.task_missing(TASKS[mode]):
            return f"{reason}; {weights.task_remedy(TASKS[mode])}"
        try:
            _ = cls(mode, device).device
        except UsageError as error:
            return f"{error.message}; {error.hint}"
        return None

    @functools.cached_property
    def device(self) -> str:
        """Where it runs, as torch calls it.

        Raises:
            UsageError: There is no such device; or no GPU, and the CPU was not asked for.
        """
        found = find_device(self._wanted).type
        if self._wanted == "auto" and found == "cpu":
            raise UsageError(
                "there is no GPU here, and TotalSegmentator on a CPU takes minutes a volume",
                hint="say `ctsynth score --device cpu` if that is what you want",
            )
        return found

    @functools.cached_property
    def version(self) -> str:
        """Versions of TotalSegmentator and nnU-Net."""
        return f"{version('TotalSegmentator')}, nnunetv2 {version('nnunetv2')}"

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        """Task, model, device, and the SHA-256 of the weights, which have no other name."""
        files = {path.name: next(path.rglob("checkpoint_final.pth")) for path in self._weights()}
        hashes = {name: weights.digest_of(file) for name, file in files.items()}
        return {"task": "total", "mode": self.mode, "device": self.device, "weights": hashes}

    def segment(self, volume: Volume, labels: LabelSet, subject: str) -> Segmentation:
        """The organs of a volume, on its grid.

        Raises:
            DataError: The volume is not in HU.
            UsageError: TotalSegmentator cannot run here.
            RunError: It failed.
        """
        lowest, highest = float(volume.voxels.min()), float(volume.voxels.max())
        if not lowest < WARMEST_AIR:
            raise DataError(
                f"{subject}: its values are within [{lowest:g}, {highest:g}], which cannot be HU of a patient in"
                f" air: TotalSegmentator would find little or nothing",
                hint="bring it to Hounsfield units: HU = level - width / 2 + width x for x in [0, 1]",
            )
        if reason := self.unavailable(self.mode, self._wanted):
            raise UsageError(f"TotalSegmentator cannot run here: {reason}")
        image = nib.Nifti1Image(volume.voxels, volume.geometry.affine)
        image.header.set_xyzt_units("mm")
        try:
            found, names = self._run(image)
        except (RuntimeError, OSError, ValueError, MemoryError) as error:
            raise RunError(f"{subject}: TotalSegmentator failed: {error}") from error
        own = "TotalSegmentator's total"
        relabeling = labels.relabel({value: (name,) for value, name in names.items() if value != BACKGROUND}, own)
        return translate(np.asanyarray(found.dataobj), relabeling, labels, subject, own)

    def _run(self, image: nib.Nifti1Image) -> tuple[nib.Nifti1Image, dict[int, str]]:
        """Its masks of an image, and the names of their ids."""
        device = {"cuda": "gpu"}.get(self.device, self.device)
        output = StringIO()
        with (
            _private_home(weights.task_root()),
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(output),
        ):
            import_torchvision()
            api = importlib.import_module("totalsegmentator.python_api")
            nnunet = importlib.import_module("totalsegmentator.nnunet")
            with (
                _replaced(api, "download_pretrained_weights", lambda task: None),
                _replaced(nnunet, "nnUNetPredictor", _predictor(nnunet.nnUNetPredictor, self._models)),
            ):
                fast = self.mode == "fast"
                found = api.totalsegmentator(image, None, ml=True, fast=fast, device=device, quiet=True)
        log.debug("TotalSegmentator printed: %s", output.getvalue().strip())
        return found, api.class_map["total"]

    def _weights(self) -> list[Path]:
        """The folders of the mode's models."""
        numbers = weights.TASKS[TASKS[self.mode]]
        return [next(weights.task_root().glob(f"Dataset{number}_*")) for number in numbers]


def _predictor(original: type, models: dict[str, dict[str, Any]]) -> type:
    """nnU-Net's predictor, taking a model from ``models`` where it is there, and in this very process.

    ``predict_from_files`` would spawn processes for each volume, each of which imports nnU-Net again, for ten
    seconds; ``predict_from_files_sequential`` is nnU-Net's own way without.
    """
    torch = importlib.import_module("torch")
    threads = torch.get_num_threads()  # on a CPU, TotalSegmentator is about to take all cores

    class Predictor(original):  # type: ignore[misc]
        def initialize_from_trained_model_folder(self, folder: str, *which: Any, **options: Any) -> None:  # noqa: ANN401
            if folder not in models:
                super().initialize_from_trained_model_folder(folder, *which, **options)
                models[folder] = dict(self.__dict__)
            self.__dict__.update(models[folder])

        def predict_from_files(self, source: str, target: str, **_: Any) -> Any:  # noqa: ANN401
            torch.set_num_threads(threads)
            return self.predict_from_files_sequential(source, target)

    return Predictor


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextlib.contextmanager
def _private_home(weights: Path) -> Iterator[None]:
    """A home for TotalSegmentator with its statistics off; the user's own is neither read nor written."""
    names = ("TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="ctsynth_totalsegmentator_") as home:
        (Path(home) / "config.json").write_text(json.dumps(_QUIET), encoding="utf-8")
        os.environ.update(dict(zip(names, (home, str(weights)), strict=True)))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
