"""From a checkpoint and label volumes to synthetic CT volumes in HU, on the label volumes' own grids."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ctsynth.data.formats import check_installed, record_beside
from ctsynth.data.record import claim, save
from ctsynth.data.volume import Volume
from ctsynth.data.window import Window
from ctsynth.device import check_compiler
from ctsynth.errors import CTSynthError, RunError, UsageError, WriteError, explain
from ctsynth.methods.base import VolumeMethod
from ctsynth.outputs import refuse_inputs
from ctsynth.sampling.batches import SamplingConfig, Slices, sample_batches
from ctsynth.sampling.cases import Case
from ctsynth.sampling.record import DESCRIPTION, is_whole, provenance
from ctsynth.stop import Stop, Stopped
from ctsynth.training.checkpoint import Trained
from ctsynth.training.compile_blocks import compile_model

log = logging.getLogger(__name__)

AIR = -1000
"""HU, by definition: what is outside the patient where the window's lower end is not wanted there."""


def sample(
    trained: Trained,
    cases: list[Case],
    sampling: SamplingConfig,
    *,
    stop: Stop,
    overwrite: bool = False,
    progress: Callable[..., None] = lambda done, note="": None,
) -> Iterator[Path]:
    """Draws the cases and yields the path of each volume, in their order; those that are whole are skipped.

    Nothing is drawn if one of them would overwrite an input, a user's file, or a volume that was
    drawn with other settings. A volume is written while the next one is drawn.

    Args:
        trained: The model.
        cases: From ``ctsynth.sampling.cases``.
        sampling: How.
        stop: Tells when to stop.
        overwrite: Draw again what was drawn before, also with other settings.
        progress: Called with the number of cases done, and the name of the current one.

    Raises:
        UsageError: The method does not take that sampler or that choice, nothing here can compile it, or an output
            must not be overwritten.
        DataError: The only mask cannot be used.
        RunError: Some of several masks cannot be used; the others are drawn.
        Interrupted: A signal came; the volumes so far are whole.
    """
    check(trained, sampling)
    if sampling.compile:
        check_compiler(sampling.device)
        compile_model(trained.method, sampling.device)
    queue = _Queue(cases, progress)
    volumes = sample_batches(trained, queue.opened(trained, sampling, overwrite), sampling, queue.advance)
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
                    "the same command continues with the next",
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
        super().__init__(case.name, masks.slices, masks.geometry.spacing[2], case.sample, masks.known)
        self.background = masks.background if case.settings.outside == "air" else None
        origins = {"body": masks.body, "tissues": masks.tissues}
        self.case, self.out, self.record = case, case.out, wanted | origins
        self.written: Future[None] | None = None

    def write(self) -> None:
        voxels = self.case.finish(self.hu, self.geometry)
        if self.background is not None:
            voxels[self.background] = AIR
        window = Window(**self.record["window"])
        save(Volume(voxels, self.geometry), self.out, DESCRIPTION, self.record, (window.low, window.high))


class _Queue:
    """Cases on their way from mask to volume, in their order; those that are whole already among them.

    Attributes:
        done: Volumes that are whole and were reported.
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

    def opened(self, trained: Trained, sampling: SamplingConfig, overwrite: bool) -> Iterator[_Opened]:
        """Checks that every volume may be drawn, then reads the masks one by one."""
        outputs = [path for case in self.cases for path in (case.out, record_beside(case.out))]
        for case in self.cases:
            check_installed(case.out)
        refuse_inputs(outputs, [path for case in self.cases for path in case.inputs])
        records = [provenance(trained, case, sampling) for case in self.cases]
        whole = [is_whole(*pair, overwrite=overwrite) for pair in zip(self.cases, records, strict=True)]
        for case, wanted in zip(self.cases, records, strict=True):
            if (
                overwrite and case.out.exists()
            ):  # if this is interrupted, the same command continues without --overwrite
                claim(case.out, wanted)
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
        """Drops a case, unless it is the only one."""
        problem = explain(error, case.source)
        if len(self.cases) == 1:
            raise problem from error
        log.warning("%s", problem.message)
        self.broken.append(problem)

    def advance(self, volume: _Opened, slices: int) -> None:
        """Reports a batch."""
        self.progress(self.done + len(self.broken), f"{volume.name}: {slices} of {len(volume.masks)} slices")

    def undrawn(self) -> _Opened | None:
        """The first volume that is not fully drawn."""
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


def check(trained: Trained, sampling: SamplingConfig) -> None:
    """Refuses what the model cannot be asked for; ``sample`` does it too, when masks have been read.

    Raises:
        UsageError: The method does not take that sampler or that choice.
    """
    takes = trained.method.samplers
    if sampling.sampler is not None and sampling.sampler.name not in takes:
        raise UsageError(
            f"{trained.config.method} does not take the sampler {sampling.sampler.name!r}",
            hint=f"it takes: {', '.join(takes)}"
            if takes
            else "it draws in one pass: omit `sampler`, `steps`, `guidance` and `eta`",
        )
    if sampling.sampler is not None:
        trained.method.check(sampling.sampler)
    method = trained.method
    if sampling.noise is not None and sampling.noise not in method.noises:
        raise UsageError(
            f"{trained.config.method} does not take `noise` {sampling.noise}: it draws slices together",
            hint="leave `noise` out",
        )
    if sampling.chunk and not isinstance(method, VolumeMethod):
        raise UsageError(f"{trained.config.method} draws slice by slice", hint="leave `chunk` out")
    if isinstance(method, VolumeMethod) and sampling.chunk and sampling.chunk < method.window:
        raise UsageError(f"`chunk` {sampling.chunk}: wanted at least {method.window}, the model's window")
    for name, value in sampling.choices.items():
        if value not in trained.method.choices.get(name, ()):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{trained.config.method} does not take {flag} {value}", hint=f"leave {flag} out")
