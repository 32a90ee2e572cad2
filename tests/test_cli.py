"""What every command has in common."""

import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctsynth import __version__
from ctsynth.cli.app import app

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
COMMANDS = [command.name for command in app.registered_commands]


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_the_commands_come_in_the_order_of_the_work():
    assert COMMANDS[:5] == ["preprocess", "train", "sample", "score", "report"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"ctsynth {name}" in result.stdout.split("Usage:")[1].split("\n", 2)[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_nonsense_exits_with_2(name):
    assert run(name, "--no-such-option").exit_code == 2


def test_the_reference_is_what_the_commands_say():
    spec = importlib.util.spec_from_file_location("make_cli", REFERENCE / "make_cli.py")
    make_cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_cli)
    assert (REFERENCE / "cli.md").read_text(encoding="utf-8") == make_cli.render(), (
        "run docs/reference/make_cli.py"
    )


def test_the_version():
    assert run("--version").stdout == f"ctsynth {__version__}\n"


def test_python_m_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "ctsynth", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"ctsynth {__version__}\n"


def test_an_error_is_two_lines_and_a_traceback_only_if_asked_for(tmp_path):
    words = ["train", "--data", str(tmp_path / "none"), "--device", "cpu"]
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    error, hint = result.stderr.strip().split("\n")
    assert error.startswith("error: ")
    assert str(tmp_path / "none") in error
    assert hint.startswith(" hint: ")
    assert "ctsynth preprocess" in hint
    assert "Traceback" in run("--verbose", *words).stderr


def test_info_names_what_is_here():
    result = run("info")
    assert result.exit_code == 0
    for word in ("torch", "ddpm-mask", "dpm++", "psnr", "cores"):
        assert word in result.stdout


HEAVY = ("torch", "numpy", "scipy", "nibabel", "PIL", "matplotlib")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom ctsynth.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_takes_less_than_0_15_of_importing_torch():
    def seconds(*words):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        return time.perf_counter() - started

    pairs = [(seconds("-m", "ctsynth", "--help"), seconds("-c", "import torch")) for _ in range(5)]
    assert statistics.median(ours / torch for ours, torch in pairs) < 0.15
