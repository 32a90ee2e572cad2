"""``ctsynth slurm``: a job script that trains the methods, preempted or not."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ctsynth import plugins
from ctsynth.cli import console
from ctsynth.errors import UsageError

JOB, TRAIN = "Job", "Training"

SCRIPT = """\
#!/bin/bash
# Trains {count} of ctsynth's methods, a task of the array each. Submit it with: sbatch FILE
# If preempted or out of time, a task saves, exits with 75 and requeues itself; then it continues.
# There is no trap for SIGTERM: scancel ends this shell, so a canceled task is not requeued.
#SBATCH --job-name=ctsynth
#SBATCH --array=0-{last}
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task={cpus} --mem={mem}{gres}
#SBATCH --time={time} --signal=USR1@120
#SBATCH --requeue --open-mode=append --output=ctsynth_%A_%a.log
{site}
methods=({methods})
method=${{methods[$SLURM_ARRAY_TASK_ID]}}
{weights}{cache}srun --cpus-per-task={cpus} ctsynth train --method "$method" \\
    --data {data} --out {runs}/"$method" {where}{extra}
rc=$?
# Not $SLURM_JOB_ID: in one task that is the number of the whole array.
[ $rc -eq 75 ] && scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
exit $rc
"""

CACHE = "export TORCHINDUCTOR_CACHE_DIR={}  # a requeued task finds its compiled graphs there\n"


Extra = Annotated[
    list[str] | None,
    typer.Argument(metavar="EXTRA", help="Further options of `ctsynth train`, after --.", show_default=False),
]
Methods = Annotated[
    str | None,
    typer.Option(help="Comma-separated.", show_default="all that there are", rich_help_panel=TRAIN),
]
Data = Annotated[Path, typer.Option(help="Slice store.", rich_help_panel=TRAIN)]
Runs = Annotated[Path, typer.Option(help="Folder of the runs, one per method.", rich_help_panel=TRAIN)]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the networks, as in `ctsynth train`.",
        show_default="that of train",
        rich_help_panel=TRAIN,
    ),
]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs per task; 0 trains on its CPUs.", rich_help_panel=JOB)]
Cpus = Annotated[int, typer.Option(min=1, help="CPUs per task.", rich_help_panel=JOB)]
Mem = Annotated[
    str,
    typer.Option(
        help="Memory per task, in SLURM's format; `ctsynth train --dry-run` estimates a run's need.",
        rich_help_panel=JOB,
    ),
]
Time = Annotated[str, typer.Option(help="Time limit, in SLURM's format.", rich_help_panel=JOB)]
Partition = Annotated[
    str | None, typer.Option(help="Partition of your site.", show_default=False, rich_help_panel=JOB)
]
Account = Annotated[
    str | None, typer.Option(help="Account at your site.", show_default=False, rich_help_panel=JOB)
]


def command(
    extra: Extra = None,
    methods: Methods = None,
    data: Data = Path("out"),
    runs: Runs = Path("runs"),
    compile_: Compile = None,
    gpus: Gpus = 1,
    cpus: Cpus = 8,
    mem: Mem = "32G",
    time: Time = "24:00:00",
    partition: Partition = None,
    account: Account = None,
) -> None:
    """Print a SLURM job script that trains every method, or those named.

    The job array has one task per method. A task that is preempted or runs out
    of time saves, requeues itself and continues:

        ctsynth slurm --gpus 4 --partition gpu > train.sbatch
        ctsynth slurm --methods ddpm-mask,sdm -- --seed 1 | sbatch

    Nothing is submitted and nothing is written.
    """
    known = plugins.names("ctsynth.methods")
    chosen = [name.strip() for name in methods.split(",")] if methods else known
    if unknown := [name for name in chosen if name not in known]:
        raise UsageError(f"no method is called {unknown[0]!r}", hint=f"there are: {', '.join(known)}")
    if "--overwrite" in (extra or []):
        raise UsageError("--overwrite: a requeued task would start over", hint="leave it out")
    site = {"partition": partition, "account": account}
    weights = os.environ.get("CTSYNTH_WEIGHTS")
    compiled = {True: ["--compile"], False: ["--no-compile"], None: []}[compile_]
    cache = gpus > 0 if compile_ is None else compile_
    console.echo(
        SCRIPT.format(
            count=len(chosen),
            last=len(chosen) - 1,
            cpus=cpus,
            mem=shlex.quote(mem),
            gres=f" --gres=gpu:{gpus}" if gpus else "",
            time=time,
            site="".join(f"#SBATCH --{key}={value}\n" for key, value in site.items() if value),
            methods=" ".join(chosen),
            weights=f"export CTSYNTH_WEIGHTS={shlex.quote(weights)}\n" if weights else "",
            cache=CACHE.format(shlex.quote(str(runs.absolute() / ".inductor"))) if cache else "",
            data=shlex.quote(str(data.absolute())),
            runs=shlex.quote(str(runs.absolute())),
            where=f"--gpus {gpus}" if gpus else "--device cpu",
            extra="".join(f" {shlex.quote(word)}" for word in [*compiled, *(extra or [])]),
        ).rstrip()
    )
