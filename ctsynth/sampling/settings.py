"""What may be chosen when volumes are drawn: the options of ``ctsynth sample``, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ctsynth.data.settings import Unmatched
from ctsynth.device import DeviceName, Precision
from ctsynth.errors import UsageError
from ctsynth.schema import Help, Range, check

Preset = Literal["fast", "paper"]

SamplerName = Literal["dpm++", "ddim", "ddpm"]

Count = Annotated[int, Range(1, 65_536)]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSettings:
    """How label volumes are read, and what kind of volume is drawn from them."""

    format: Annotated[
        Literal["nii.gz", "nii", "nrrd", "mha", "dicom"],
        Help(
            "nii.gz, nii, nrrd, mha or dicom, which writes folders; not needed if --out names a file.",
            metavar="FORMAT",
        ),
    ] = "nii.gz"

    outside: Annotated[
        Literal["window", "air"],
        Help("Values outside the patient: the model's own, in the window, or air, -1000 HU."),
    ] = "window"

    labels: Annotated[
        str | None,
        Help(
            "The masks' label set: amos22, totalsegmentator, a .json of yours, or a dataset.json.",
            "names in the header or a dataset.json, else the model's",
        ),
    ] = None

    unmatched: Annotated[
        Unmatched | None,
        Help("Replacement for classes that the model does not have.", "body; an error from 0.1 % of the patient"),
    ] = None

    body_from: Annotated[
        Path | None,
        Help("CT on the mask's grid: source of a missing body, and of tissues if the model has them."),
    ] = None

    given: Annotated[
        Path | None,
        Help("edm-volume: CT on the mask's grid; --given-slices are kept and the others drawn."),
    ] = None

    given_slices: Annotated[
        str | None,
        Help(
            "Which slices of --given, from the feet, ends excluded: 0:10,40:50. They get the model's size and"
            " window.",
            metavar="RANGES",
        ),
    ] = None

    tissues: Annotated[
        bool,
        Help("For a model with tissues: use them if known, or the body as one class."),
    ] = True

    def __post_init__(self) -> None:
        check(self)
        if (self.given is None) != (self.given_slices is None):
            raise UsageError(
                "`given` and `given_slices` go together", hint="`given` ct.nii.gz `given_slices` 0:10,40:50"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSettings:
    """How a model draws, as it is asked to; ``sampling.batches.resolve`` decides what is left open."""

    preset: Annotated[
        Preset,
        Help("fast: dpm++ in 20 steps, edm in 10; paper: ancestral in 1000. GANs draw in one pass."),
    ] = "fast"

    sampler: Annotated[
        SamplerName | None,
        Help("dpm++ (2M), ddim, or ddpm (ancestral).", "the preset's"),
    ] = None

    steps: Annotated[Annotated[int, Range(1)] | None, Help("Network evaluations a slice.", "the preset's")] = None

    guidance: Annotated[
        float,
        Range(0),
        Help("Scale of classifier-free guidance, 1 for none; needs a model trained with label dropout."),
    ] = 1.0

    eta: Annotated[float, Range(0, 1), Help("With ddim: 0 is deterministic, 1 as noisy as ddpm.")] = 0.0

    pix2pix_test: Annotated[
        Literal["eval", "original"] | None,
        Help("original: Pix2Pix as published, with dropout and each slice's own statistics.", "eval"),
    ] = None

    seed: Annotated[int, Range(0, 2**63 - 1), Help("Same seed, same volume.")] = 0

    noise: Annotated[
        Literal["volume", "slice"] | None,
        Help(
            "Start neighboring slices from similar noise (volume) or independent noise (slice).",
            "volume; edm-volume: slice",
        ),
    ] = None

    chunk: Annotated[
        Count | None,
        Help(
            "edm-volume: slices drawn together; a longer volume is drawn chunk after chunk, in less memory.",
            "128",
        ),
    ] = None

    batch_size: Annotated[
        Count | None,
        Help("Slices at once; changes rounding only. For edm-volume see --chunk.", "16; on a CPU 4"),
    ] = None

    device: Annotated[DeviceName, Help("Where to draw.")] = "auto"

    precision: Annotated[Precision, Help("auto is bf16 on a GPU that has it.")] = "auto"

    compile: Annotated[
        bool, Help("On a GPU: compile the network, which takes minutes at first; changes rounding only.")
    ] = False

    def __post_init__(self) -> None:
        check(self)
