"""The record beside a synthetic volume: what made it, whether one that is there was made so, what several share.

``data/record.py`` checks whether a volume is the one that its record was written for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctsynth import __version__
from ctsynth.data.formats import record_beside
from ctsynth.data.record import DIGEST, Kind, Standing, look
from ctsynth.errors import UsageError
from ctsynth.schema import read
from ctsynth.scoring.scores import Provenance

if TYPE_CHECKING:
    from ctsynth.sampling.batches import SamplingConfig
    from ctsynth.sampling.cases import Case
    from ctsynth.training.checkpoint import Trained

log = logging.getLogger(__name__)

DESCRIPTION = "synthetic CT by ctsynth, not a patient"

KIND = Kind(DESCRIPTION, frozenset({"synthetic", "subject", "mask_sha256", "weights_sha256"}))
"""Record of a volume that was drawn here."""


def provenance(trained: Trained, case: Case, sampling: SamplingConfig) -> dict[str, Any]:
    """What a synthetic volume was made with: the content of the JSON file beside it, but for the body's origin."""
    config, noise, chunk = trained.config, sampling.noise_for(trained.method), sampling.chunk_for(trained.method)
    return {
        "synthetic": True,
        "version": __version__,
        "torch": version("torch"),
        "model": str(trained.path),
        "method": config.method,
        "iterations": trained.step,
        "weights_sha256": trained.digest,
        "label_set": trained.labels.name,
        "size": config.size,
        "window": {"level": config.level, "width": config.width},
        "sampler": asdict(sampling.sampler) if sampling.sampler else None,
        **{name: sampling.choices.get(name) for name in trained.method.choices},
        "seed": sampling.seed + case.sample,
        "noise": noise,
        "correlation_length_mm": sampling.correlation_for(trained.method),
        **({"chunk": chunk} if chunk else {}),
        **_given(case),
        "device": sampling.device.type,
        "precision": sampling.precision,
        "compile": sampling.compile,
        "subject": case.name,
        "mask": case.source,
        "mask_sha256": case.digest,
        "mask_labels": case.settings.labels,
        "may_have_tissues": case.settings.tissues if trained.labels.tissues else None,
        "mask_names": case.names,
        "unmatched": case.settings.unmatched,
        "outside": "air" if case.settings.outside == "air" else None,
    }


def _given(case: Case) -> dict[str, Any]:
    """The real slices that the volume was drawn around; empty where there were none."""
    if case.given is None:
        return {}
    given = case.given
    return {"given": str(given.file), "given_sha256": given.digest, "given_slices": given.ranges}


PLACES = ("synthetic", "version", "torch", "model", "compile")
"""Entries that may change without the volume being drawn again.

The device may not, as another draws other noise; nor the precision, as bf16 is further from fp32 than 1 HU.
"""

OWN_TO_VOLUME = ("subject", "mask", "mask_sha256", "body", DIGEST)
"""Entries that differ from volume to volume by nature."""

_INPUTS = ("mask", "mask_sha256")


def is_whole(case: Case, wanted: dict[str, Any], *, overwrite: bool = False) -> bool:
    """Whether a case's volume is there, as it was drawn from the same mask with the same settings.

    Raises:
        UsageError: What is there must not be overwritten.
    """
    standing, found = look(case.out, KIND)
    if standing is Standing.FOREIGN:
        beside = record_beside(case.out)
        missing = "is not there" if case.out.exists() and not beside.exists() else "is not of a volume drawn here"
        theirs = case.out if case.out.exists() else beside
        raise UsageError(
            f"{theirs}: not overwritten: the record {beside.name} {missing}",
            hint="move it elsewhere, or name another `out`",
        )
    if standing is Standing.FREE or overwrite:
        return False
    if standing is Standing.CHANGED:
        raise UsageError(f"{case.out}: changed since it was drawn", hint=_AGAIN)
    if changed := _changed(found, wanted):
        raise UsageError(f"{case.out}: drawn with {changed}", hint=_AGAIN)
    if standing is Standing.DAMAGED:
        log.warning("%s is damaged or was not finished: drawn again", case.out)
        return False
    return found["mask_sha256"] == case.digest


_AGAIN = "keep it by another `out`, or draw it again with `overwrite`"


def _changed(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What a volume was drawn with otherwise, and both values; empty where only its mask has changed."""
    (mask, _, ct), (own_mask, _, own_ct) = (str(one["mask_sha256"]).partition("+") for one in (found, wanted))
    before, now = _flat(found), _flat(wanted)
    is_other = mask != own_mask and Path(str(found.get("mask"))).absolute() != Path(wanted["mask"]).absolute()
    pairs = {"mask": (found.get("mask"), wanted["mask"])} if is_other else {}
    pairs |= {key: (before.get(key), value) for key, value in now.items() if before.get(key) != value}
    if ct != own_ct:
        pairs["body-from"] = (ct or None, own_ct or None)
    listed = [f"{key} {_short(then)}, not {_short(new)}" for key, (then, new) in pairs.items()]
    return "; ".join(listed[:3])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a record, those of the sampler and the window among them."""
    settings: dict[str, Any] = {}
    for key, value in record.items():
        if key in ("sampler", "window") and isinstance(value, Mapping):
            settings |= {(key if inner == "name" else inner): part for inner, part in value.items()}
        elif key == "device":
            settings[key] = str(value).partition(":")[0]  # early records have cuda:0
        elif key not in (*PLACES, *_INPUTS):
            settings[key] = value
    return settings


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def read_record(volume: Path) -> Mapping[str, Any]:
    """The content of the JSON beside a volume; empty where there is none.

    Raises:
        DataError: It is of another form.
    """
    path = record_beside(volume)
    return dict(read(path, Provenance)) if path.is_file() else {}


def agreed(volumes: Iterable[Path]) -> dict[str, Any]:
    """What the volumes were made with, from the JSON file beside each: the entries in which all agree.

    Entries that differ are listed in ``differing``, and volumes without such a file are counted in ``unknown``.
    """
    records: list[Mapping[str, Any]] = []
    unknown = 0
    for volume in volumes:
        if content := read_record(volume):
            records.append({key: value for key, value in content.items() if key not in OWN_TO_VOLUME})
        else:
            unknown += 1
    keys = dict.fromkeys(key for record in records for key in record)
    shared = {key: records[0].get(key) for key in keys if all(r.get(key) == records[0].get(key) for r in records)}
    differing = [key for key in keys if key not in shared]
    if differing:
        log.warning("the volumes were made with different settings: %s", ", ".join(differing))
    return shared | ({"differing": differing} if differing else {}) | ({"unknown": unknown} if unknown else {})
