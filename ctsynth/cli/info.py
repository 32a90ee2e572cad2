"""``ctsynth info``: what people paste into a bug report."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ctsynth.cli import console

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "nibabel",
    "pillow",
    "scikit-image",
    "safetensors",
    "typer",
    "rich",
    "matplotlib",
)


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what is here: versions, devices, methods, samplers, metrics.

    What to paste into a bug report:

        ctsynth info
        ctsynth info --json | jq .methods
    """
    found = _found()
    if as_json:
        console.echo(json.dumps(found, indent=2))
        return
    for topic, entries in found.items():
        console.echo(f"{topic}:")
        for name, what in entries.items():
            console.echo(f"  {name:<14} {what}")


def _found() -> dict[str, dict[str, Any]]:
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from ctsynth import __version__
    from ctsynth.diffusion.samplers import SAMPLERS
    from ctsynth.methods import base as methods
    from ctsynth.metrics import base as metrics

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    gpus = {
        f"cuda:{n}": f"{torch.cuda.get_device_name(n)}, "
        f"{torch.cuda.get_device_properties(n).total_memory / 2**30:.0f} GiB"
        for n in range(torch.cuda.device_count())
    }
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "versions": {
            "ctsynth": __version__,
            "python": f"{platform.python_version()} on {platform.platform()}",
            **{package: of(package) for package in PACKAGES},
        },
        "devices": gpus | {"cpu": f"{cores} cores"},
        "methods": {name: methods.find(name).title for name in methods.names()},
        "samplers": {name: sampler.title for name, sampler in SAMPLERS.items()},
        "metrics": {name: metrics.find(name)().available() or "ready" for name in metrics.names()},
    }
