"""Which device, in which precision: what was asked for or a clear refusal, never a silent fallback."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Literal

from ctsynth import compat
from ctsynth.errors import UsageError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp32"]

DeviceName = Literal["auto", "cuda", "mps", "cpu"]


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def find_device(name: str) -> torch.device:
    """The device called ``auto``, ``cuda``, ``mps`` or ``cpu``; ``auto`` takes the first of these that is there.

    Raises:
        UsageError: It is asked for by name and not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, found in there.items() if found))
    if name not in there:
        raise UsageError(f"`device` {name!r}: wanted one of auto, {', '.join(there)}")
    if not there[name]:
        build = f"torch {torch.__version__} sees none" + (
            "" if torch.version.cuda else ", and is built without CUDA"
        )
        raise UsageError(
            f"`device` {name}: {build if name == 'cuda' else 'there is none here'}",
            hint="check nvidia-smi and CUDA_VISIBLE_DEVICES, or say `device` cpu",
        )
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What the device is called: the GPU's model, else its type."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def check_gpus(wanted: int) -> None:
    """Refuses more GPUs than there are.

    Raises:
        UsageError: There are fewer.
    """
    import torch

    if wanted < 1:
        raise UsageError(f"`gpus` {wanted}: at least 1")
    there = torch.cuda.device_count()
    if wanted > there:
        found = f"there {'is' if there < 2 else 'are'} {there or 'none'} on this machine"
        hint = (
            f"say `gpus` {there}, or ask the scheduler for {wanted}"
            if there
            else "leave `gpus` out to use the CPU"
        )
        raise UsageError(f"`gpus` {wanted}: {found}", hint=hint)


def find_precision(name: Precision, device: torch.device) -> Precision:
    """``bf16`` or ``fp32`` for ``auto``, ``bf16`` or ``fp32``: bf16 where the GPU has it.

    Raises:
        UsageError: bf16 is asked for where it is missing or, as on a CPU, many times slower.
    """
    import torch

    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        return "bf16" if has_bf16 else "fp32"
    if name == "bf16" and not has_bf16:
        why = "many times slower than fp32 there" if device.type == "cpu" else "this device does not have it"
        raise UsageError(f"`precision` bf16 on {device.type}: {why}", hint="say `precision` fp32")
    return name


def check_compiler(device: torch.device) -> None:
    """Refuses ``--compile`` where torch.compile lacks what it compiles with.

    Raises:
        UsageError: There is no C++ compiler for a CPU, no Triton for a GPU, or no C compiler for Triton.
    """
    if device.type == "cuda":
        missing = "" if _has_c_compiler() else "a C compiler (gcc or clang, or what CC names)"
        missing = missing if compat.has_triton() else "Triton, and a GPU of compute capability 7.0 or more"
    else:
        missing = "" if compat.has_cpp_compiler() else "a C++ compiler (g++, or what CXX names)"
    if missing:
        raise UsageError(
            f"`compile` on {device.type}: torch.compile wants {missing}, and finds none",
            hint="leave `compile` out, or install it",
        )


def _has_c_compiler() -> bool:
    """Whether Triton, which builds its launchers in C, finds one."""
    return bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The context in which networks run at that precision."""
    import torch

    if precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
