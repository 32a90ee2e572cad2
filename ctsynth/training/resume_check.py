"""Whether a run that is there may be continued with these settings."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ctsynth import trainable
from ctsynth.config import MAY_CHANGE, RunConfig, build
from ctsynth.errors import UsageError
from ctsynth.labels import LabelSet


def refuse_other_settings(before: RunConfig, now: RunConfig, run: Path) -> None:
    """A run is continued with what it was begun with, or not at all.

    Options that the method has got since then are taken at their defaults.

    Raises:
        UsageError: Settings differ; it names three of them.
    """

    def flat(config: RunConfig) -> dict[str, Any]:
        options = build(trainable.find_model(config.method).Options, config.options, f"options of {config.method}")
        content = replace(config, options=asdict(options)).as_json()
        training = {key: value for key, value in content.pop("training").items() if key not in MAY_CHANGE}
        options = content.pop("options")
        ignored = {"version", "schema", "preset", "phases", "sha256"}
        data, start = content.pop("data").get("digest"), content.pop("start").get("sha256")
        labels = LabelSet.from_json(content.pop("labels"), "labels of a run")  # equal where only colors differ
        if not labels.tissues:
            training.pop("tissue_dropout", None)  # without effect, and of a default that has changed
        kept = {key: value for key, value in content.items() if key not in ignored}
        return kept | training | options | {"data": data, "labels": labels, "from": start}

    old, new = flat(before), flat(now)
    changed = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    if changed:
        what = ", ".join(
            f"{key} {_brief(old.get(key))} there, {_brief(new.get(key))} here" for key in sorted(changed)[:3]
        )
        raise UsageError(
            f"{run} was trained with other settings: {what}", hint="choose another run: `out` runs/NAME"
        )


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
