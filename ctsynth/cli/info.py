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
    "isal",
    "jinja2",
    "pillow",
    "scikit-image",
    "safetensors",
    "typer",
    "rich",
    "matplotlib",
    "SimpleITK",
    "pydicom",
    "highdicom",
)


def command(
    size: Annotated[
        int, typer.Option(min=1, max=4096, help="Side of a slice, pixels, at which the methods are counted.")
    ] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show versions, devices, methods, samplers and metrics.

    A method's parameters and FLOPs are those of its preset paper for 17
    classes; FLOPs are of one slice: a GAN's one pass, a diffusion model's one
    denoising step.

    What to paste into a bug report:

        ctsynth info
        ctsynth info --json | jq .methods
    """
    found = _found(size)
    if as_json:
        console.echo(json.dumps(found, indent=2))
        return
    for topic, entries in found.items():
        console.echo(f"{topic}:")
        for name, what in entries.items():
            console.echo(f"  {name:<13} {_described(what) if isinstance(what, dict) else what}")


def _described(method: dict[str, Any]) -> str:
    counted = ", ".join(f"{phase} {count / 1e6:.1f}" for phase, count in method["parameters"].items())
    flops = "" if method["flops"] is None else f", {method['flops'] / 1e9:.0f} GFLOP"
    return f"{method['title']:<16} {f'{counted} M{flops}' if counted else method['reason']}"


def _cost(name: str, size: int) -> dict[str, Any]:
    from ctsynth.errors import UsageError
    from ctsynth.label_files import label_set
    from ctsynth.methods import base
    from ctsynth.training.cost import cost

    title = base.find_method(name).title
    try:
        counted = cost(name, num_classes=label_set("amos22").num_classes, size=size)
    except UsageError as error:  # not at this size
        return {"title": title, "parameters": {}, "flops": None, "reason": error.message}
    return {"title": title, "parameters": counted.parameters, "flops": counted.flops}


def _found(size: int) -> dict[str, dict[str, Any]]:
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
        "methods": {name: _cost(name, size) for name in methods.method_names()},
        "samplers": {name: sampler.title for name, sampler in SAMPLERS.items()},
        "metrics": {name: metrics.find_metric(name).available() or "ready" for name in metrics.metric_names()},
    }
