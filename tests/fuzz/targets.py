"""What reads the mutated files: readers called by themselves, and whole commands in this process."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ctsynth import figures, history, label_files, labels, weights
from ctsynth.augment.plan import StudyConfig, make_plan
from ctsynth.augment.study import Study
from ctsynth.augment.tables import answer
from ctsynth.config import RunConfig, read_toml
from ctsynth.data.layouts import discover
from ctsynth.data.loader import SliceDataset
from ctsynth.data.masks import complete_labels
from ctsynth.data.pairs import read_pair
from ctsynth.data.settings import SplitRule
from ctsynth.data.source_case import SourceCase
from ctsynth.data.store import Store
from ctsynth.data.volume import Volume
from ctsynth.reporting.tables import render
from ctsynth.scoring import pairs, scores
from ctsynth.scoring.records import Records
from ctsynth.stop import Stop
from ctsynth.training import checkpoint, trainer_file
from ctsynth.training.configure import configure
from ctsynth.training.loop import Trainer

from .world import HAS_FORMATS, SEGMENTER, SIZE, STEPS, STUDY

CPU = torch.device("cpu")
STEP = f"checkpoints/step_{STEPS:09d}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something that reads files.

    Args:
        share: How often it has its turn, relative to the others.
        files: One of these is mutated; patterns below ROOT.
        read: Called with the file's path; None for a command.
        words: The command; ``{file}`` stands for the path.
        copies: Folders of ROOT/in that are copied to ROOT/out first, where the command may write to them.
        renamed: The files get another name, one for all of them, instead of another content.
        works: It does as much work as the file asks for, so that slow is no failure.
    """

    share: int
    files: tuple[str, ...]
    read: Callable[[Path], object] | None = None
    words: tuple[object, ...] = ()
    copies: tuple[str, ...] = ()
    renamed: bool = False
    works: bool = False


def _mask(file: Path) -> None:
    complete_labels(file, Volume.load(file), labels.AMOS22)


def _body_from(file: Path) -> None:
    mask = Path("in/masks/seg.nii")
    complete_labels(mask, Volume.load(mask), labels.AMOS22, body_from=file)


def _pair(file: Path) -> None:
    image, label = (Path(f"in/amos/{kind}Tr/amos_0001.nii.gz") for kind in ("images", "labels"))
    read_pair(SourceCase("amos_0001", "train", image, label), labels.AMOS22)


def _store(file: Path) -> None:
    store = Store.open(Path("in/store"))
    assert store.digest
    for split in ("train", "test"):
        data = SliceDataset(store, split)
        if len(data):
            data.batch([0, len(data) - 1], CPU)


def _synthetic(file: Path) -> None:
    store = Store.open(Path("in/store"))
    for subject in store.subjects("test"):
        pairs.read_pair(subject, file, store)


def _toml(file: Path) -> None:
    content = read_toml(file)
    configure(
        Store.open(Path("in/store")),
        content.get("method", "ddpm-mask"),
        preset=content.get("preset", "auto"),
        options=content.get("options", {}),
        training=content.get("training", {}),
        device=CPU,
    )


def _scores(file: Path) -> None:
    found = scores.Scores.load(file)
    for form in ("table", "csv", "markdown", "latex"):
        render({found.name: found}, form)


def _rows(file: Path) -> None:
    figures.loss_terms(history.rows(file))


def _measured(file: Path) -> None:
    found = Records(file.parent, [file.stem])
    found.has(file.stem, "key")
    assert all(isinstance(array, np.ndarray) for array in found[file.stem].values())


def _label_set(file: Path) -> None:
    label_files.label_set(str(file))


def _dataset(file: Path) -> None:
    label_files.dataset_label_set(file)
    labels.AMOS22.relabel(label_files.dataset_names(file), str(file))


def _split(file: Path) -> None:
    discover(Path("in/amos"), rule=SplitRule(split=file))


def _checkpoint(file: Path) -> None:
    checkpoint.load(Path("in/run") / STEP, CPU)


def _trainer(file: Path) -> None:
    checkpoint.verify(file.parent)
    trainer_file.load(file, STEPS, _optimizers())


@functools.cache
def _optimizers() -> dict[str, torch.optim.Optimizer]:
    phases = checkpoint.make_method(RunConfig.read(Path("in/run/config.json"))).phases()
    return {phase.name: torch.optim.Adam(phase.parameters) for phase in phases}


def _resumed(file: Path) -> None:
    run = Path("out/run")
    config = RunConfig.read(Path("in/run/config.json"))
    data = SliceDataset(Store.open(Path("in/store")), "train")
    Trainer(run, config, data, None, device=CPU, precision="fp32").stepper.advance(Stop())


def _study(file: Path) -> None:
    config = StudyConfig(
        arms=("R", "R+S"), fractions=(1.0,), seeds=1, doses=(1,), method="ddpm-concat", preset="tiny",
        iterations=2, generator_iterations=2, steps=1,
    )  # fmt: skip
    store = Store.open(Path("in/store"))
    study = Study(store, make_plan(store, config), Path("out/augment"), CPU, Stop())
    study.begin()
    if not study.missing():
        results = study.results()
        json.dumps(results.as_json(), allow_nan=False)
        answer(results, 100)


TRAIN = ("train", "--device", "cpu", "--data", "in/store")
DRAW = ("--model", "in/run", "--steps", 1, "--device", "cpu")
SCORE = ("score", "out/synthetic", "--out", "out/scores.json", "--device", "cpu", "--data", "in/store")
SEGMENTED = (*SCORE[:-1], "out/store", "--metrics", "dice", "--segmenter", "in/segmenter")
PREPROCESS = ("preprocess", "in/amos", "out/store", "--size", SIZE, "--workers", 1)
RUN_FILES = ("config.json", "metrics.jsonl", "latest", f"{STEP}/*")


CELL = "out/augment/fraction-1/draw-0"


def _other_format(file: Path) -> None:
    Volume.load(file.parent if file.parent.suffix == ".dicom" else file)


TARGETS: dict[str, Target] = {
    "volume": Target(share=250, files=("in/masks/*",), read=Volume.load),
    **(
        {"other formats": Target(share=100, files=("in/formats/*", "in/formats/*/*"), read=_other_format)}
        if HAS_FORMATS
        else {}
    ),
    "mask": Target(share=150, files=("in/masks/[ns]*",), read=_mask),
    "body from a CT": Target(share=60, files=("in/bodies/ct.nii",), read=_body_from),
    "image and label": Target(share=150, files=("in/amos/*Tr/amos_0001.nii.gz",), read=_pair),
    "synthetic volume": Target(share=60, files=("in/synthetic/*.nii.gz",), read=_synthetic),
    "manifest": Target(share=150, files=("in/store/manifest.json",), read=_store),
    "store arrays": Target(share=150, files=("in/store/*/*/*.npy",), read=_store),
    "label set": Target(share=80, files=("in/labels.json",), read=_label_set),
    "dataset.json": Target(share=60, files=("in/dataset.json", "in/amos/dataset.json"), read=_dataset),
    "split file": Target(share=40, files=("in/split.json",), read=_split),
    "run config": Target(share=80, files=("in/run/config.json",), read=RunConfig.read),
    "TOML": Target(share=100, files=("in/train.toml",), read=_toml),
    "checkpoint": Target(share=80, files=(f"in/run/{STEP}/[em]*", f"in/run/{STEP}/config.json"), read=_checkpoint),
    "trainer.pt": Target(share=60, files=(f"in/run/{STEP}/trainer.pt",), read=_trainer),
    "resumed run": Target(
        share=15, files=tuple(f"out/run/{file}" for file in RUN_FILES), read=_resumed, copies=("run",)
    ),
    "metrics.jsonl": Target(share=60, files=("in/run/metrics.jsonl",), read=_rows),
    "scores.json": Target(share=120, files=("in/synthetic/scores.json",), read=_scores),
    "measured": Target(share=60, files=("in/synthetic/measured/*/*.npz",), read=_measured),
    "weights": Target(share=10, files=("in/weights/*.pth",), read=weights.import_file),
    "other weights": Target(share=20, files=("in/weights/*.pt",), read=weights.read),
    "preprocess": Target(share=25, files=("in/amos/*/*", "in/amos/*/*", "in/amos/*.json"), words=PREPROCESS),
    "preprocess by names": Target(
        share=10, files=("in/amos/dataset.json",), words=(*PREPROCESS, "--label-set", "dataset")
    ),
    "preprocess, files of the user's": Target(
        share=10,
        files=("in/classes.json", "in/split.json"),
        words=(*PREPROCESS, "--label-set", "in/classes.json", "--split", "in/split.json"),
    ),
    "preprocess, names": Target(
        share=10,
        files=("out/amos/imagesTr/amos_0001.nii.gz", "out/amos/labelsTr/amos_0001.nii.gz"),
        words=("preprocess", "out/amos", "out/store", "--size", SIZE, "--workers", 1),
        copies=("amos",),
        renamed=True,
    ),
    "sample, names": Target(
        share=5,
        files=("out/found/amos_0101.nii.gz",),
        words=("sample", "--mask", "out/found", *DRAW),
        copies=("found",),
        renamed=True,
    ),
    "score, names": Target(
        share=5,
        files=("out/synthetic/amos_0101.nii.gz",),
        words=(*SCORE, "--metrics", "psnr"),
        copies=("synthetic",),
        renamed=True,
    ),
    "preprocess again": Target(
        share=15, files=("out/store/manifest.json", "out/store/*/*/*"), words=PREPROCESS, copies=("store",)
    ),
    "sample masks": Target(
        share=15, files=("in/masks/[ns]*",), words=("sample", "--mask", "{file}", "--out", "out", *DRAW)
    ),
    "sample, body from": Target(
        share=5,
        files=("in/bodies/ct.nii",),
        words=("sample", "--mask", "in/masks/seg.nii", "--body-from", "{file}", "--out", "out", *DRAW),
    ),
    "sample a store": Target(
        share=15,
        files=("in/store/manifest.json", "in/store/test/*/*", "out/synthetic/*", "in/run/latest", "in/run/*.json"),
        words=("sample", "--data", "in/store", "--out", "out/synthetic", *DRAW),
        copies=("synthetic",),
    ),
    "sample an export": Target(
        share=5,
        files=("in/export/*",),
        words=("sample", "--mask", "in/masks/seg.nii", "--out", "out", "--model", "in/export", *DRAW[2:]),
    ),
    "deform": Target(share=10, files=("in/masks/[ns]*",), words=("deform", "{file}", "--out", "out")),
    "sample a checkpoint": Target(
        share=10,
        files=(f"in/run/{STEP}/*",),
        words=("sample", "--mask", "in/masks/seg.nii", "--out", "out", *DRAW),
    ),
    "score": Target(
        share=15,
        files=(
            "out/synthetic/*",
            "out/synthetic/measured/*/*",
            "out/store/manifest.json",
            "out/store/test/*/*",
            "out/store/features/*",
        ),
        words=(*SCORE[:-1], "out/store", "--metrics", "psnr,ssim,hu,gradient,z-gradient,z-correlation,copies"),
        copies=("synthetic", "store"),
    ),
    "score with masks": Target(
        share=5,
        files=("in/found/*",),
        copies=("synthetic",),
        words=(*SCORE, "--metrics", "dice", "--segmenter", "in/found", "--native"),
    ),
    "score with organs": Target(
        share=3,
        files=("in/organs/*/*",),
        copies=("synthetic",),
        words=(*SCORE, "--metrics", "dice", "--segmenter", "in/organs", "--native"),
    ),
    "score with a segmenter": Target(
        share=8,
        files=(f"in/segmenter/{STEP}/*", "in/segmenter/*.json", "in/segmenter/latest"),
        words=SEGMENTED,
        copies=("synthetic", "store"),
    ),
    "score with kept masks": Target(
        share=4,
        files=("out/synthetic/segmentations/*", "out/store/segmentations/*"),
        copies=("synthetic", "store"),
        words=SEGMENTED,
    ),
    "report": Target(
        share=3,
        files=(
            "in/synthetic/scores.json",
            "in/synthetic/scores.json",
            "in/synthetic/*.nii.gz",
            "in/run/metrics.jsonl",
            "in/run/*.json",
            "in/store/manifest.json",
            "in/store/test/*/*",
            "in/run/samples/*",
        ),
        words=("report", "in/synthetic", "in/run", "--out", "out/report"),
    ),
    "train, resumed": Target(
        share=2,
        files=tuple(f"out/run/{file}" for file in RUN_FILES),
        copies=("run",),
        words=(*TRAIN, "--out", "out/run", "--config", "in/run.toml", "--iterations", STEPS + 1),
    ),
    "train, begun": Target(
        share=10,
        files=("in/train.toml", "in/train.toml", "in/store/manifest.json", "in/store/*/*/*.npy"),
        words=(*TRAIN, "--out", "out/run", "--config", "in/train.toml"),
        works=True,
    ),
    "train-segmenter, resumed": Target(
        share=1,
        files=(*(f"out/segmenter/{file}" for file in RUN_FILES), "in/store/train/*/*"),
        copies=("segmenter",),
        words=(
            "train-segmenter",
            "in/store",
            "--out",
            "out/segmenter",
            *shlex.split(SEGMENTER),
            "--iterations",
            STEPS + 1,
        ),
    ),
    "study": Target(
        share=63,
        files=("out/augment/study.json", f"{CELL}/copies.json", f"{CELL}/*/seed-0/result.json"),
        read=_study,
        copies=("augment",),
    ),
    "augment": Target(
        share=2,
        files=(
            "out/augment/study.json",
            f"{CELL}/copies.json",
            f"{CELL}/*/seed-0/result.json",
            f"{CELL}/generator/*.*",
        ),
        words=tuple(shlex.split(STUDY)),
        copies=("augment",),
        works=True,
    ),
    "augment, begun": Target(
        share=1,
        files=(
            "out/begun/*/*/generator/*.json*",
            "out/begun/*/*/generator/checkpoints/*/*",
            "out/begun/*/*/synthetic/*/*/*",
            "out/begun/*/*/R+S/seed-0/*.json*",
            "out/begun/*/*/R+S/seed-0/checkpoints/*/*",
        ),
        words=(*shlex.split(STUDY), "--out", "out/begun"),
        copies=("begun",),
        works=True,
    ),
    "weights import": Target(share=3, files=("in/weights/*.pth",), words=("weights", "import", "{file}")),
    "weights verify": Target(share=3, files=("in/weights/*.pth",), words=("weights", "verify")),
}
"""By name."""
