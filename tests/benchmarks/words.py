"""In words: an amount with its unit, and the machine that it was measured on."""

from __future__ import annotations

import datetime
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "nibabel",
    "isal",
    "pillow",
    "scikit-image",
    "pytorch-fid",
    "monai",
    "opencv-python-headless",
)
UNITS = {"s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")), "B": ((1e9, "GB"), (1e6, "MB")), "evaluations": ((1, ""),)}


def amount(value: float, unit: str) -> str:
    """Three digits and a unit that suits them."""
    scale, name = next((entry for entry in UNITS[unit] if value >= entry[0]), UNITS[unit][-1])
    number = value / scale
    return f"{number:,.0f} {name}".strip() if number >= 1000 else f"{number:.3g} {name}".strip()


def machine() -> str:
    """Where and with what this was measured."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(": ")[1] for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    threads = torch.get_num_threads()
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores ({models[0] if models else 'CPU'}), "
        f"torch on {threads} thread{'s' if threads > 1 else ''}; {', '.join(found)}."
    )
