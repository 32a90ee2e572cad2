"""``ctsynth sample``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctsynth.cli import _sample_options as options
from ctsynth.cli import console
from ctsynth.errors import UsageError

if TYPE_CHECKING:
    from ctsynth.sampling.batches import SamplingConfig
    from ctsynth.sampling.cases import Case
    from ctsynth.stop import Stop
    from ctsynth.training.checkpoint import Trained


def command(
    mask: options.Mask = None,
    data: options.Data = None,
    split: options.Split = "test",
    model: options.Model = None,
    out: options.Out = None,
    format_: options.Format = "nii.gz",
    samples: options.Samples = 1,
    uncertainty: options.Uncertainty = False,
    outside: options.Outside = "window",
    labels: options.Labels = None,
    unmatched: options.Unmatched = None,
    body_from: options.BodyFrom = None,
    given: options.Given = None,
    given_slices: options.GivenSlices = None,
    tissues: options.Tissues = True,
    preset: options.Preset = "fast",
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    guidance: options.Guidance = 1.0,
    eta: options.Eta = 0.0,
    pix2pix_test: options.Pix2pixTest = None,
    seed: options.Seed = 0,
    noise: options.Noise = None,
    chunk: options.Chunk = None,
    raw: options.Raw = False,
    overwrite: options.Overwrite = False,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile_: options.Compile = False,
    shard: options.Shard = "1/1",
) -> None:
    """Draw a synthetic CT volume for each label volume.

    Each is written as int16 HU on the label volume's own grid, as
    NAME_synthetic.nii.gz beside it unless --out says otherwise, with a
    NAME_synthetic.json that tells what made it. Its path is printed:

        ctsynth sample --mask seg.nii.gz
        ctsynth sample --mask segs/ --out synthetic/ --labels totalsegmentator
        ctsynth sample --data out --split test --preset paper --shard 1/8
        ctsynth sample --mask seg.nii.gz --samples 8 --uncertainty
        ctsynth sample --mask seg.seg.nrrd --format nrrd --outside air
        ctsynth sample --mask seg.nii.gz --given ct.nii.gz --given-slices 0:20

    A volume that is whole and was made with the same settings is skipped, so
    the same command continues a broken one. One made with other settings is
    kept unless --overwrite says otherwise; masks, and files of yours, are
    never written over.
    """
    from ctsynth.stop import Stop

    _refuse_contradictions(
        mask,
        data,
        given,
        given_slices,
        is_of_masks=bool(labels or body_from or unmatched),
        lone=samples if uncertainty and samples < 2 else None,
    )
    with Stop() as stop:
        from ctsynth.device import find_device, find_precision
        from ctsynth.shards import take
        from ctsynth.training import checkpoint

        path = checkpoint.find(model)
        console.log.info("model: %s", path)
        where = find_device(device)
        trained = checkpoint.load(path, where, raw=raw)

        from ctsynth.data.store import Store
        from ctsynth.sampling import volumes
        from ctsynth.sampling.batches import SamplingConfig, pick_sampler
        from ctsynth.sampling.cases import cases_of_masks, cases_of_store
        from ctsynth.sampling.given import GivenSlices

        sampling = SamplingConfig(
            sampler=pick_sampler(trained.method, preset, sampler, steps, guidance, eta),
            seed=seed,
            noise=noise,
            chunk=chunk,
            batch_size=batch_size or (4 if where.type == "cpu" else 16),
            device=where,
            precision=find_precision(precision, where),
            compile=compile_,
            choices={"pix2pix_test": pix2pix_test} if pix2pix_test else {},
        )
        volumes.check(trained, sampling)
        if given and trained.method.window == 1:
            raise UsageError(f"{trained.config.method} draws slice by slice: it takes no --given")
        if not tissues and not trained.labels.tissues:
            raise UsageError(f"--no-tissues: the model's labels, {trained.labels.name}, have none")
        if mask is not None:
            cases = cases_of_masks(
                mask, trained, out, labels=labels, body_from=body_from, unmatched=unmatched, tissues=tissues,
                suffix=f".{format_}",
                given=GivenSlices(given, given_slices) if given and given_slices else None,
            )  # fmt: skip
        else:
            assert data is not None
            folder = out or Path("synthetic")
            cases = cases_of_store(Store.open(data), split, trained, folder, tissues=tissues, suffix=f".{format_}")
        cases = [replace(case, outside=outside) for case in take(cases, shard)]
        _draw(
            trained, cases, sampling, stop,
            samples=samples, uncertainty=uncertainty, shard=shard, overwrite=overwrite,
        )  # fmt: skip


def _refuse_contradictions(
    mask: Path | None,
    data: Path | None,
    given: Path | None,
    given_slices: str | None,
    *,
    is_of_masks: bool,
    lone: int | None,
) -> None:
    if (mask is None) == (data is None):
        raise UsageError("name the input: either --mask or --data", hint="ctsynth sample --mask seg.nii.gz")
    if (given is None) != (given_slices is None):
        raise UsageError(
            "--given and --given-slices go together", hint="--given ct.nii.gz --given-slices 0:10,40:50"
        )
    if data and given:
        raise UsageError("--given is for --mask: name the subject's label volume")
    if data and is_of_masks:
        raise UsageError(
            "--labels, --unmatched and --body-from are for --mask: a store has its own labels and body"
        )
    if lone is not None:
        raise UsageError(f"--uncertainty wants 2 samples and more, not {lone}", hint="say --samples 8")


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
