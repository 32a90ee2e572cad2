"""The commands as functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ctsynth.api.errors import as_path, value_errors
from ctsynth.device import DeviceName


def preprocess(
    source: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    labels: str | Path | None = None,
    label_set: str = "amos22",
    unmatched: Literal["body", "background"] | None = None,
    test_subjects: int = 50,
    split: str | Path | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    size: int = 256,
    level: float = 40,
    width: float = 400,
    workers: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Makes a slice store, as ``ctsynth preprocess`` does.

    Args:
        source: The data set's folder.
        out: The store's folder.
        images: Folder of CT volumes, if the source has another layout.
        labels: Folder of label volumes, named as those in ``images``.
        label_set: The classes of the store: ``amos22``, ``totalsegmentator``, a .json file, or ``dataset``.
        unmatched: Replacement for classes that the label set does not have; with None they are an error if they
            cover more than a few voxels.
        test_subjects: The first N CT of imagesVa, by id, are test.
        split: A JSON file with the names of the subjects, ``{"train": [...], "test": [...]}``.
        test_fraction: Choose this share of all subjects at random for test.
        seed: Seed of that choice.
        size: Side of the slices, pixels.
        level: Middle of the window, HU.
        width: Width of the window, HU.
        workers: Processes. With more than one, call this function below ``if __name__ == "__main__":``.
        overwrite: Make all subjects again, finished ones too.

    Returns:
        What ``ctsynth preprocess --json`` prints.

    Raises:
        ValueError: The source as a whole or a setting cannot be used.
        RunError: Some subjects could not be made; the others are in the store.
    """
    from ctsynth.data.preprocess import preprocess as make
    from ctsynth.data.settings import Settings, SplitRule
    from ctsynth.label_files import named_label_set

    with value_errors():
        source, out = Path(source), Path(out)
        settings = Settings(
            size=size, level=level, width=width, labels=named_label_set(label_set, source, as_path(labels)),
            unmatched=unmatched, image_folder=as_path(images), label_folder=as_path(labels),
            rule=SplitRule(
                test_subjects=test_subjects, split=as_path(split), test_fraction=test_fraction, seed=seed
            ),
        )  # fmt: skip
        return make(source, out, settings=settings, workers=workers, overwrite=overwrite).as_json(out)


def score(
    synthetic: str | Path,
    data: str | Path = "out",
    *,
    split: Literal["train", "test"] = "test",
    metrics: Sequence[str] | None = None,
    segmenter: str | Path | None = None,
    native: bool = False,
    partial: bool = False,
    device: DeviceName = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Scores synthetic volumes, as ``ctsynth score`` does.

    Args:
        synthetic: Folder of volumes in HU, or one of them.
        data: Slice store with the real volumes.
        split: Subjects to compare with.
        metrics: Names of metrics; all that can be computed here if None.
        segmenter: For Dice: ``totalsegmentator``, a run of ``ctsynth train-segmenter``, or a folder of masks.
        native: Compute Dice on the source CT's grid.
        partial: Score the volumes that exist if some subjects have none.
        device: Where the segmenter runs.
        out: Where the scores are written; SYNTHETIC/scores.json if None.
        overwrite: Measure again.

    Returns:
        The content of scores.json, its paths absolute.

    Raises:
        ValueError: Volumes are missing, or cannot be scored; no such metric.
    """
    from ctsynth.data.store import Store
    from ctsynth.outputs import refuse_foreign
    from ctsynth.scoring import run
    from ctsynth.scoring.scores import is_scores
    from ctsynth.scoring.volumes import scores_beside
    from ctsynth.segmentation.settings import Segmenting

    with value_errors():
        target = as_path(out) or scores_beside(Path(synthetic))
        refuse_foreign(target, is_scores, "a file of scores")
        named = None if segmenter is None else str(segmenter)
        scores = run.score(
            Path(synthetic), Store.open(Path(data)), split, metrics=metrics, partial=partial,
            segmenting=Segmenting(named, device, native), overwrite=overwrite,
        )  # fmt: skip
        scores.save(target, overwrite=overwrite)
        return scores.as_json()


def report(
    inputs: str | Path | Sequence[str | Path], out: str | Path = "report", *, overwrite: bool = False
) -> Path:
    """Makes a page of scores and runs, as ``ctsynth report`` does.

    Args:
        inputs: A run, a scores.json, a folder with some, or several of these.
        out: The page's folder.
        overwrite: Replace a report on other inputs, or one changed by hand.

    Returns:
        The page, OUT/index.html.

    Raises:
        ValueError: An input cannot be used, or a file in OUT is not an earlier report's.
    """
    from ctsynth.reporting.page import build_report

    with value_errors():
        several = [inputs] if isinstance(inputs, str | Path) else inputs
        return build_report([Path(path) for path in several], Path(out), overwrite=overwrite)
