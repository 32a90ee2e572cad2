"""``ctsynth sample``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctsynth.cli import console
from ctsynth.cli._settings import settings_options
from ctsynth.errors import UsageError
from ctsynth.sampling.settings import MaskSettings, SamplingSettings
from ctsynth.stop import Stop

if TYPE_CHECKING:
    from ctsynth.sampling.batches import SamplingConfig
    from ctsynth.sampling.cases import Case
    from ctsynth.training.checkpoint import Trained
WHAT, HOW, MACHINE = "What to draw", "How", "Machine"

Mask = Annotated[
    Path | None,
    typer.Option(
        help="Label volume (NIfTI; with ctsynth\\[formats] also .nrrd, .seg.nrrd, .mha, DICOM SEG, RTSTRUCT),"
        " or a folder of them.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Instead of --mask: a slice store.", show_default=False, rich_help_panel=WHAT),
]
Split = Annotated[Literal["train", "test"], typer.Option(help="Which subjects of --data.", rich_help_panel=WHAT)]
Model = Annotated[
    Path | None,
    typer.Option(help="Run or checkpoint.", show_default="newest run in runs/", rich_help_panel=WHAT),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder, or a file for one mask.",
        show_default="beside each mask; for --data: synthetic/",
        rich_help_panel=WHAT,
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        help="Volumes of each mask, NAME_synthetic_0 and so on, with --seed and the next ones.",
        rich_help_panel=WHAT,
    ),
]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        help="Write mean and standard deviation of the samples, too: NAME_mean, NAME_std, HU.",
        rich_help_panel=WHAT,
    ),
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Use the raw weights, not the averaged ones.", rich_help_panel=HOW)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Draw existing volumes again, also those of other settings.", rich_help_panel=HOW
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Draw only share I of N; slurm takes I and N from the job array.",
        rich_help_panel=MACHINE,
    ),
]


@settings_options(
    {
        WHAT: ["format", "outside", "labels", "unmatched", "body_from", "given", "given_slices", "tissues"],
        HOW: [
            "preset",
            "sampler",
            "steps",
            "guidance",
            "eta",
            "pix2pix_test",
            "seed",
            "noise",
            "chunk",
            "raw",
            "overwrite",
        ],
        MACHINE: ["batch_size", "device", "precision", "compile", "shard"],
    },
    masks=MaskSettings,
    settings=SamplingSettings,
)
def command(
    mask: Mask = None,
    data: Data = None,
    split: Split = "test",
    model: Model = None,
    out: Out = None,
    samples: Samples = 1,
    uncertainty: Uncertainty = False,
    raw: Raw = False,
    overwrite: Overwrite = False,
    shard: Shard = "1/1",
    *,
    masks: MaskSettings,
    settings: SamplingSettings,
) -> None:
    """Draw a synthetic CT volume for each label volume.

    Each is written as int16 HU on the label volume's own grid, as
    NAME_synthetic.nii.gz beside it unless --out says otherwise, with a
    NAME_synthetic.json that records how it was made. Its path is printed:

        ctsynth sample --mask seg.nii.gz
        ctsynth sample --mask segs/ --out synthetic/ --labels totalsegmentator
        ctsynth sample --data out --split test --preset paper --shard 1/8
        ctsynth sample --mask seg.nii.gz --samples 8 --uncertainty
        ctsynth sample --mask seg.seg.nrrd --format nrrd --outside air
        ctsynth sample --mask seg.nii.gz --given ct.nii.gz --given-slices 0:20

    A complete volume that was made with the same settings is skipped, so the same
    command continues an interrupted one. A volume made with other settings is only
    replaced with --overwrite; masks and your own files are never overwritten.
    """
    _refuse_contradictions(mask, data, masks)
    if uncertainty and samples < 2:
        raise UsageError(f"--uncertainty wants 2 samples and more, not {samples}", hint="say --samples 8")
    with Stop() as stop:
        from ctsynth.device import find_device
        from ctsynth.shards import take
        from ctsynth.training import checkpoint

        path = checkpoint.find(model)
        console.log.info("model: %s", path)
        where = find_device(settings.device)
        trained = checkpoint.load(path, where, raw=raw)

        from ctsynth.sampling import volumes
        from ctsynth.sampling.batches import resolve

        sampling = resolve(settings, trained.method, where)
        volumes.check(trained, sampling)
        cases = _find_cases(trained, mask, data, split, out, masks)
        _draw(
            trained, take(cases, shard), sampling, stop,
            samples=samples, uncertainty=uncertainty, shard=shard, overwrite=overwrite,
        )  # fmt: skip


def _find_cases(
    trained: Trained,
    mask: Path | None,
    data: Path | None,
    split: str,
    out: Path | None,
    masks: MaskSettings,
) -> list[Case]:
    from ctsynth.data.store import Store
    from ctsynth.sampling.cases import cases_of_masks, cases_of_store

    if masks.given and trained.method.window == 1:
        raise UsageError(f"{trained.config.method} draws slice by slice: it takes no --given")
    if not masks.tissues and not trained.labels.tissues:
        raise UsageError(f"--no-tissues: the model's labels, {trained.labels.name}, have none")
    if mask is not None:
        return cases_of_masks(mask, trained, out, masks)
    assert data is not None
    return cases_of_store(Store.open(data), split, trained, out or Path("synthetic"), masks)


def _refuse_contradictions(mask: Path | None, data: Path | None, masks: MaskSettings) -> None:
    if (mask is None) == (data is None):
        raise UsageError("name the input: either --mask or --data", hint="ctsynth sample --mask seg.nii.gz")
    if data and masks.given:
        raise UsageError("--given is for --mask: name the subject's label volume")
    if data and (masks.labels or masks.body_from or masks.unmatched):
        raise UsageError(
            "--labels, --unmatched and --body-from are for --mask: a store has its own labels and body"
        )


def _draw(
    trained: Trained,
    cases: list[Case],
    sampling: SamplingConfig,
    stop: Stop,
    *,
    samples: int,
    uncertainty: bool,
    shard: str,
    overwrite: bool,
) -> None:
    """Draws the cases, each so many times, and prints the path of each volume; then of mean and deviation."""
    from ctsynth.files import sole
    from ctsynth.sampling import volumes
    from ctsynth.sampling.cases import samples_of
    from ctsynth.sampling.uncertainty import check, summarize
    from ctsynth.shards import lock_name

    drawn = [samples_of(case, samples) if samples > 1 else [case] for case in cases]
    if uncertainty:
        check(cases)
    folder = cases[0].out.parent if cases else Path()
    everything = [sample for several in drawn for sample in several]
    with sole(folder / lock_name("sample", shard)), console.progress("sample", len(everything)) as progress:
        for volume in volumes.sample(
            trained, everything, sampling, stop=stop, overwrite=overwrite, progress=progress
        ):
            console.echo(str(volume))
        for case, several in zip(cases, drawn, strict=True) if uncertainty else ():
            for path in summarize(case, several, overwrite=overwrite):
                console.echo(str(path))
