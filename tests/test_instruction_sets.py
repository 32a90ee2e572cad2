"""The numerical tests hold with every instruction set, not with this machine's alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    *(
        "diffusion",
        "methods",
        "metrics",
        "networks",
        "segmentation",
        "segmenters",
        "sampling/test_batches.py",
        "test_learning.py",
    ),
    *(f"training/test_{name}.py" for name in ("distributed", "ema", "loop", "compile_blocks")),
]
VARIANTS = {
    "torch without vectors": ({"ATEN_CPU_CAPABILITY": "default"}, ""),
    "torch with AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, "avx2"),
    "oneDNN with SSE4.1": ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, "sse4_1"),
    "oneDNN with AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, "avx2"),
    "oneDNN with AVX-512": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "avx512bw"),
    "oneDNN with bf16": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "avx512_bf16"),
    "oneDNN with AMX": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "amx_bf16"),
    "both without vectors": ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, "sse4_1"),
}
"""What the environment says, and the flag of /proc/cpuinfo without which it would change nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_numerical_tests_hold_with(variant):
    settings, flag = VARIANTS[variant]
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists():
        pytest.skip("what the CPU has is read from Linux's /proc/cpuinfo")
    if flag and flag not in cpu.read_text().split():
        pytest.skip(f"this CPU has no {flag}")
    files = [f"tests/{name}" for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
