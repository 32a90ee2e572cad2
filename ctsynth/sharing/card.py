"""A model card in the form of the Hugging Face Hub: YAML for programs, Markdown for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctsynth.config import RunConfig
from ctsynth.data.window import Window
from ctsynth.labels import LabelSet
from ctsynth.methods.base import find_method
from ctsynth.reporting.tables import remarks, render
from ctsynth.scoring.scores import Scores

FILL_IN = "FILL IN"
"""Marks what only the people who trained the model know."""


@dataclass(frozen=True, eq=False, slots=True)
class Facts:
    """What is known of a model.

    Args:
        config: Settings of its training.
        name: Name of the folder.
        step: Optimizer steps behind its weights.
        split: Subjects of train and of test, and whether they are phantoms; None where the store is not there.
        digest: SHA-256 of its weights.
        scores: Scores of volumes that it drew.
    """

    config: RunConfig
    name: str
    step: int | None
    split: dict[str, Any] | None
    digest: str
    scores: tuple[Scores, ...]


def card(facts: Facts) -> str:
    """The content of README.md."""
    parts = [_front_matter(facts), _title(facts), _use(facts), _data(facts), _training(facts), _scores(facts)]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: Facts) -> str:
    """The YAML; each value as JSON, which is YAML too."""
    method = find_method(facts.config.method)
    tags = ["ctsynth", "medical", "computed-tomography", "semantic-image-synthesis"]
    entries: dict[str, Any] = {
        "license": "unknown",
        "library_name": "ctsynth",
        "pipeline_tag": "image-to-image",
        "tags": [*tags, "diffusion" if method.samplers else "gan"],
    }
    if facts.scores:
        entries["model-index"] = [{"name": facts.name, "results": [_index(scores) for scores in facts.scores]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
    lines[0] += f"  # {FILL_IN}: the license under which you share the weights"
    return "\n".join(["---", *lines, "---"])


def _index(scores: Scores) -> dict[str, Any]:
    metrics = [
        {"type": name, "name": f"{result.title} ({result.total.unit})", "value": result.total.value}
        for name, result in scores.metrics.items()
        if result.total.value is not None
    ]
    dataset = {
        "type": "phantoms" if scores.phantom else "ct",
        "name": f"{scores.split}, {scores.subjects} subjects",
    }
    return {"task": {"type": "image-to-image"}, "dataset": dataset, "metrics": metrics}


def _title(facts: Facts) -> str:
    config = facts.config
    title = find_method(config.method).title
    return f"""# {facts.name}

{title} (`{config.method}`): draws abdominal CT slices of {config.size} x {config.size} pixels from label maps, in
Hounsfield units. Trained with ctsynth {config.version}; the methods are those of Zhuang et al. 2023, *Semantic
Image Synthesis for Abdominal CT*, https://arxiv.org/abs/2312.06453.

    ctsynth sample --mask seg.nii.gz --model {facts.name}

or in Python

    hu = ctsynth.load("{facts.name}").draw(labels, spacing=5.0)"""


PHANTOM = """
It was trained on synthetic phantoms, not on patients, and draws such phantoms: it shows how things work and is for
nothing else.
"""


def _use(facts: Facts) -> str:
    window = Window(facts.config.level, facts.config.width)
    return f"""## Intended use
{PHANTOM if facts.split and facts.split["phantom"] else ""}
Research: training data for segmentation, tests of image analysis, studies of synthesis. What it draws shows no
patient.

Not for diagnosis, treatment or any other decision on a patient; no evidence of what a scanner would have shown. It
knows nothing outside its window of {window.low:g} to {window.high:g} HU: lungs, gas and dense bone are drawn at
its ends. A model may repeat training subjects in part; share it only as the data's terms allow.

{FILL_IN}: who made it, how to reach them, and what else it must not be used for."""


def _data(facts: Facts) -> str:
    config, labels = facts.config, LabelSet.from_json(facts.config.labels)
    classes = ", ".join(f"{number} {name}" for number, name in labels.names.items())
    lines = [
        f"{FILL_IN}: which data set, its license, and what consent covers.",
        "",
        f"- {config.data.get('subjects', '?')} training subjects, {config.data.get('slices', '?')} axial slices",
        f"- SHA-256 of the slice store: `{config.data.get('digest', 'unknown')}`",
        *_split(facts),
        f"- window: level {config.level:g} HU, width {config.width:g} HU",
        f"- label set {labels.name}: 0 background, {classes}",
    ]
    return "## Training data\n\n" + "\n".join(lines)


def _split(facts: Facts) -> Iterator[str]:
    """Which subjects were held out: two people compare the hash."""
    if facts.split is None:
        yield "- the split is unknown: the store was not there when this was exported"
        return
    for name in ("train", "test"):
        subjects = facts.split[name]
        digest = hashlib.sha256("\n".join(subjects).encode()).hexdigest()[:16]
        yield f"- {name}: {len(subjects)} subjects, SHA-256 of their names `{digest}`"


def _training(facts: Facts) -> str:
    config, training = facts.config, facts.config.training
    rows = {
        "preset": config.preset,
        "optimizer steps": f"{facts.step:,} of {training.iterations:,}"
        if facts.step
        else f"{training.iterations:,}",
        "batch": training.batch_size,
        "seed": training.seed,
        "precision": training.precision,
        "averaging": training.ema,
        "SHA-256 of the weights": f"`{facts.digest}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## Training\n\n| | |\n|---|---|\n{table}\n\nEverything else is in config.json."


def _scores(facts: Facts) -> str:
    if not facts.scores:
        return "## Scores\n\nNone were given (`ctsynth export --scores scores.json`)."
    named = {f"{scores.name}, {scores.split}": scores for scores in facts.scores}
    notes = dict.fromkeys(words for scores in facts.scores for words in remarks(scores))
    return "\n".join(["## Scores", "", render(named, "markdown"), "", *(f"- {words}" for words in notes)]).rstrip()
