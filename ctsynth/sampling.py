"""From a checkpoint and label volumes to synthetic CT volumes in HU, on the label volumes' own grids."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ctsynth import __version__
from ctsynth.cases import Case
from ctsynth.data.formats import record_beside
from ctsynth.data.record import Kind, Standing, look, save
from ctsynth.data.volume import Volume
from ctsynth.device import check_compiler
from ctsynth.drawing import CORRELATION_LENGTH, Drawing, Slices, draw_all
from ctsynth.errors import CTSynthError, RunError, UsageError, WriteError, explain
from ctsynth.outputs import refuse_inputs
from ctsynth.stop import Stop, Stopped
from ctsynth.training.checkpoint import Trained, is_step, step_of
from ctsynth.training.regions import compile_blocks

log = logging.getLogger(__name__)

DESCRIPTION = "synthetic CT by ctsynth, not a patient"

KIND = Kind(DESCRIPTION, frozenset({"synthetic", "subject", "mask_sha256", "weights_sha256"}))
"""Of the volumes that are drawn here."""


def provenance(trained: Trained, case: Case, drawing: Drawing) -> dict[str, Any]:
    """What a synthetic volume was made with: the content of the JSON file beside it, but for the body's origin."""
    config = trained.config
    return {
        "synthetic": True,
        "version": __version__,
        "torch": torch.__version__,
        "model": str(trained.path),
        "method": config.method,
        "iterations": step_of(trained.path) if is_step(trained.path) else None,
        "weights_sha256": trained.digest,
        "label_set": trained.labels.name,
        "size": config.size,
        "window": {"level": config.level, "width": config.width},
        "sampler": asdict(drawing.sampler) if drawing.sampler else None,
        **{name: drawing.choices.get(name) for name in trained.method.choices},
        "seed": drawing.seed,
        "noise": drawing.noise,
        "correlation_length_mm": CORRELATION_LENGTH if drawing.noise == "volume" else None,
        "device": drawing.device.type,
        "precision": drawing.precision,
        "compile": drawing.compile,
        "subject": case.name,
        "mask": case.source,
        "mask_sha256": case.digest,
        "mask_labels": case.labels,
        "may_have_tissues": case.tissues if trained.labels.tissues else None,
        "mask_names": case.names,
        "unmatched": case.unmatched,
    }


PLACES = ("synthetic", "version", "torch", "model", "compile")
"""Of a provenance: what may change without the volume being drawn again.

The device may not, as another draws other noise; nor the precision, as bf16 is further from fp32 than 1 HU.
"""

_INPUTS = ("mask", "mask_sha256")


def is_whole(case: Case, wanted: dict[str, Any], *, overwrite: bool = False) -> bool:
    """Whether a case's volume is there, as it was drawn from the same mask with the same settings.

    Raises:
        UsageError: What is there is not to be written over.
    """
    standing, found = look(case.out, KIND)
    if standing is Standing.FOREIGN:
        beside = record_beside(case.out)
        is_ours = "does not say that ctsynth sample drew it" if beside.exists() else "is not there"
        raise UsageError(
            f"{case.out}: not written over: its record {beside.name} {is_ours}",
            hint="move it elsewhere, or name another --out",
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


_AGAIN = "keep it by another --out, or draw it again with --overwrite"


def _changed(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What a volume was drawn with otherwise, and both values; empty where only its mask has changed."""
    (mask, _, ct), (own_mask, _, own_ct) = (str(one["mask_sha256"]).partition("+") for one in (found, wanted))
    before, now = _flat(found), _flat(wanted)
    is_other = mask != own_mask and Path(str(found.get("mask"))).absolute() != Path(wanted["mask"]).absolute()
    pairs = {"mask": (found.get("mask"), wanted["mask"])} if is_other else {}
    pairs |= {key: (before.get(key), value) for key, value in now.items() if before.get(key) != value}
    if ct != own_ct:
        pairs["body-from"] = (ct or None, own_ct or None)
    told = [f"{key} {_short(then)}, not {_short(new)}" for key, (then, new) in pairs.items()]
    return "; ".join(told[:3])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a record, those of the sampler and the window among them."""
    settings: dict[str, Any] = {}
    for key, value in record.items():
        if key in ("sampler", "window") and isinstance(value, Mapping):
            settings |= {(key if inner == "name" else inner): part for inner, part in value.items()}
        elif key not in (*PLACES, *_INPUTS):
            settings[key] = value
    return settings


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def sample(
    trained: Trained,
    cases: list[Case],
    drawing: Drawing,
    *,
    stop: Stop,
    overwrite: bool = False,
    progress: Callable[..., None] = lambda done, note="": None,
) -> Iterator[Path]:
    """Draws the cases and yields the path of each volume, in their order; those that are whole are skipped.

    Nothing is drawn if one of them would be written over an input, a file of the user's, or a volume that was
    drawn with other settings. A volume is written while the next one is drawn.

    Args:
        trained: The model.
        cases: From ``ctsynth.cases``.
        drawing: How.
        stop: Tells when to stop.
        overwrite: Draw again what was drawn before, also with other settings.
        progress: Called with the number of cases done, and the name of the one at hand.

    Raises:
        UsageError: The method does not take that sampler or that choice, nothing here can compile it, or an output
            is not to be written over.
        DataError: The only mask cannot be used.
        RunError: Some of several masks cannot be used; the others are drawn.
        Interrupted: A signal came; the volumes so far are whole.
    """
    check(trained, drawing)
    for name, value in drawing.choices.items():
        setattr(trained.method, name, value)
    if drawing.compile:
        check_compiler(drawing.device)
        compile_blocks(trained.method)
    queue = _Queue(cases, progress)
    volumes = draw_all(trained, queue.opened(trained, drawing, overwrite), drawing, queue.advance)
    with ThreadPoolExecutor(1) as writer:
        try:
            while volume := _next(volumes, stop):
                volume.written = writer.submit(volume.write)
                yield from queue.whole(before=volume)  # waits for those: no more than two are held
        except Stopped:
            yield from queue.whole(before=queue.undrawn())
            if queue.left:
                raise stop.interrupted(
                    f"SIGNAL: {queue.done} of {len(cases)} volumes are whole",
                    "the same command goes on with the next",
                ) from None
        yield from queue.whole()
    if broken := queue.broken:
        listed = "".join(f"\n  {error.message}" for error in broken)
        raise RunError(f"{len(broken)} of {len(cases)} masks cannot be used:{listed}", hint=broken[0].hint)


def _next(volumes: Iterator[_Opened], stop: Stop) -> _Opened | None:
    with stop.interruptible():
        return next(volumes, None)


class _Opened(Slices):
    """A case that is being drawn; ``written`` is set when it is drawn."""

    def __init__(self, case: Case, wanted: dict[str, Any]) -> None:
        masks = case.read()
        self.geometry = masks.geometry
        super().__init__(case.name, masks.slices, masks.geometry.spacing[2])
        origins = {"body": masks.body, "tissues": masks.tissues}
        self.case, self.out, self.record = case, case.out, wanted | origins
        self.written: Future[None] | None = None

    def write(self) -> None:
        volume = Volume(self.case.finish(self.hu, self.geometry), self.geometry)
        save(volume, self.out, DESCRIPTION, self.record)


class _Queue:
    """Cases on their way from mask to volume, in their order; those that are whole already among them.

    Attributes:
        done: Volumes that are whole and have been told.
        broken: What was wrong with masks.
    """

    def __init__(self, cases: list[Case], progress: Callable[..., None]) -> None:
        self.cases, self.progress = cases, progress
        self.done = 0
        self.broken: list[CTSynthError] = []
        self._outputs: deque[Case | _Opened] = deque()

    @property
    def left(self) -> int:
        """Cases whose volume is still to come."""
        return len(self.cases) - len(self.broken) - self.done

    def opened(self, trained: Trained, drawing: Drawing, overwrite: bool) -> Iterator[_Opened]:
        """Reads the masks of what is to be drawn, once it is known of all that they may be."""
        outputs = [path for case in self.cases for path in (case.out, record_beside(case.out))]
        refuse_inputs(outputs, [path for case in self.cases for path in case.inputs])
        records = [provenance(trained, case, drawing) for case in self.cases]
        whole = [is_whole(*pair, overwrite=overwrite) for pair in zip(self.cases, records, strict=True)]
        for case, wanted, is_there in zip(self.cases, records, whole, strict=True):
            if is_there:
                log.info("%s is whole: skipped", case.out)
                self._outputs.append(case)
                continue
            try:
                volume = _Opened(case, wanted)
            except Exception as error:
                self._give_up(case, error)
                continue
            self._outputs.append(volume)
            yield volume

    def _give_up(self, case: Case, error: Exception) -> None:
        """Goes on without a case, unless it is the only one."""
        problem = explain(error, case.source)
        if len(self.cases) == 1:
            raise problem from error
        log.warning("%s", problem.message)
        self.broken.append(problem)

    def advance(self, volume: _Opened, slices: int) -> None:
        """Tells of a batch."""
        self.progress(self.done + len(self.broken), f"{volume.name}: {slices} of {len(volume.masks)} slices")

    def undrawn(self) -> _Opened | None:
        """The first that is not drawn to its end."""
        return next((out for out in self._outputs if isinstance(out, _Opened) and not out.written), None)

    def whole(self, before: _Opened | None = None) -> Iterator[Path]:
        """The paths of those before that one, or of all, when they are written."""
        while self._outputs and self._outputs[0] is not before:
            output = self._outputs[0]
            try:
                if isinstance(output, _Opened) and output.written:
                    output.written.result()
            except WriteError:
                raise
            except Exception as error:
                self._outputs.popleft()
                self._give_up(output.case if isinstance(output, _Opened) else output, error)
                continue
            self._outputs.popleft()
            self.done += 1
            self.progress(self.done + len(self.broken), output.name)
            yield output.out


def check(trained: Trained, drawing: Drawing) -> None:
    """Refuses what the model cannot be asked for; ``sample`` does it too, when masks have been read.

    Raises:
        UsageError: The method does not take that sampler or that choice.
    """
    takes = trained.method.samplers
    if drawing.sampler is not None and drawing.sampler.name not in takes:
        raise UsageError(
            f"{trained.config.method} does not take the sampler {drawing.sampler.name!r}",
            hint=f"it takes: {', '.join(takes)}"
            if takes
            else "it draws in one pass: leave --sampler, --steps, --guidance and --eta out",
        )
    if drawing.sampler is not None:
        trained.method.check(drawing.sampler)
    for name, value in drawing.choices.items():
        if value not in trained.method.choices.get(name, ()):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{trained.config.method} does not take {flag} {value}", hint=f"leave {flag} out")
