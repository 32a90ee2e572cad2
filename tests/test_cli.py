"""What holds for every command: help, its place in the docs, exit codes, what goes to stderr."""

import importlib.util
import inspect
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

from ctsynth import __all__ as public
from ctsynth import __version__
from ctsynth.cli import console
from ctsynth.cli.app import COMMANDS, app
from ctsynth.errors import DataError, UsageError
from ctsynth.files import atomic

ROOT = Path(__file__).parents[1]


def ctsynth(*words):
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="ctsynth")


def reference():
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "reference" / "make_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_file_of_cli_is_a_command():
    files = {path.stem.replace("_", "-") for path in (ROOT / "ctsynth" / "cli").glob("[a-z]*.py")}
    assert set(COMMANDS) == files - {"app", "console"}
    assert list(COMMANDS)[:5] == ["preprocess", "train", "sample", "score", "report"]  # the order of the work


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_every_option_a_description(name):
    shown = ctsynth(name, "--help")
    assert shown.exit_code == 0
    assert re.search(rf"^ +ctsynth {name}\b", shown.stdout, re.MULTILINE)
    make_cli = reference()
    for _, option, _, info in make_cli._parameters(make_cli.commands()[name]):
        assert info.help, option


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns(name):
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"})
    assert "…" not in shown.stdout  # an option or a word that is cut off
    text = re.sub(r"\[/?[a-z]*\]", "", inspect.getdoc(reference().commands()[name]))
    assert [line for line in text.splitlines() if len(line) > 79] == []  # a line that wraps


def test_the_demo_refuses_another_condition_before_it_makes_anything(tmp_path):
    assert ctsynth("demo", tmp_path / "demo", "--cond", "both").exit_code == 2
    assert not (tmp_path / "demo").exists()


def test_the_reference_in_docs_is_that_of_the_commands():
    make_cli = reference()
    assert make_cli.PAGE.read_text(encoding="utf-8") == make_cli.render(), "run python docs/reference/make_cli.py"


def test_the_page_of_metrics_in_docs_is_that_of_their_files():
    make_cli = reference()
    page = make_cli.METRICS_PAGE.read_text(encoding="utf-8")
    assert page == make_cli.render_metrics(), "run python docs/reference/make_cli.py"


def test_the_page_of_settings_in_docs_is_that_of_their_dataclass():
    make_cli = reference()
    page = make_cli.SETTINGS_PAGE.read_text(encoding="utf-8")
    assert page == make_cli.render_settings(), "run python docs/reference/make_cli.py"


def test_the_page_of_python_in_docs_is_that_of_the_docstrings():
    make_cli = reference()
    assert make_cli.PYTHON_PAGE.read_text(encoding="utf-8") == make_cli.render_python()
    documented = {name.partition(".")[0] for name in make_cli.PYTHON_NAMES}
    assert documented == set(public) - {"__version__"}


@pytest.mark.parametrize(("name", "line"), COMMANDS.items())
def test_the_line_of_a_command_is_the_first_of_its_docstring(name, line):
    assert reference().commands()[name].__doc__.splitlines()[0] == line


@pytest.mark.parametrize("name", COMMANDS)
def test_invalid_arguments_exit_with_2_and_an_empty_stdout(name):
    done = ctsynth(name, "--no-such-option")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "--no-such-option" in done.stderr


SEEDED = ["sample --mask a", "train", "train-segmenter", "preprocess a b", "phantom a", "demo"]


@pytest.mark.parametrize("words", SEEDED)
def test_a_seed_below_0_is_refused_at_the_option(words):
    done = ctsynth(*words.split(), "--seed", -5)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: --seed is -5, wanted a whole number within [0, {2**63 - 1:,}]\n"


def test_an_unknown_command_exits_with_2():
    done = ctsynth("synthesize")
    assert done.exit_code == 2
    assert "synthesize" in done.stderr


def test_the_module_is_the_command_and_says_its_version():
    for words in (["--version"], ["--help"]):
        as_module = subprocess.run(
            [sys.executable, "-m", "ctsynth", *words], capture_output=True, text=True, check=True
        )
        assert as_module.stdout == ctsynth(*words).stdout
    assert ctsynth("--version").stdout == f"ctsynth {__version__}\n"


def test_help_imports_nothing_heavy():
    heavy = {"torch", "numpy", "scipy", "nibabel", "PIL", "matplotlib", "skimage"}
    code = (
        "import sys\nfrom ctsynth.cli.app import app\napp(['--help'], standalone_mode=False)\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Commands" in shown
    assert shown.splitlines()[-1] == "[]"


def test_help_that_leaves_parts_of_rich_out_is_the_same_help_and_leaves_rich_whole():
    code = (
        "{}\nfrom ctsynth.cli.app import app\napp(['--help'], standalone_mode=False)\n"
        "from rich.markdown import Markdown\nfrom rich.traceback import Traceback\n"
        "assert Markdown('a') and Traceback"
    )
    few, all_ = (
        subprocess.run([sys.executable, "-c", code.format(first)], capture_output=True, text=True, check=True)
        for first in ("", "import typer.rich_utils")
    )
    assert few.stdout == all_.stdout


def test_info_names_what_is_here():
    done = ctsynth("info")
    assert done.exit_code == 0
    for word in ("torch", "ddpm-mask", "dpm++", "psnr", "cores"):
        assert word in done.stdout


def cpu_seconds(*words):
    child = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, child.returncode, usage = os.wait4(child.pid, 0)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.slow
def test_help_takes_less_than_15_percent_of_importing_torch():
    pairs = [(cpu_seconds("-m", "ctsynth", "--help"), cpu_seconds("-c", "import torch")) for _ in range(4)]
    shown, torch = (min(times) for times in zip(*pairs, strict=True))  # other work on the machine only ever adds
    assert shown < 0.15 * torch


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("preprocess", "nowhere", "out"), "nowhere"),
        (("train", "--data", "nowhere"), "nowhere"),
        (("train", "--cond", "edge", "--method", "gan"), "gan"),
        (("score", "nowhere", "--data", "nowhere"), "nowhere"),
        (("report", "nowhere"), "nowhere"),
        (("phantom", "out", "--subjects", "0"), "0"),
        (("sample", "--mask", "seg.nii.gz"), "runs"),
        (("sample",), "--mask"),
    ],
)
def test_a_users_mistake_is_two_lines_and_exit_code_2(words, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ctsynth(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("phantoms are")]
    assert lines[0].startswith("error: ")
    assert found in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith(" hint: "))
    assert not list(tmp_path.iterdir())


def test_verbose_keeps_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ctsynth("--verbose", "preprocess", "nowhere", "out")
    assert done.exit_code == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert "error: " in done.stderr


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_hint_to_repeat_the_command_leaves_out_overwrite(overwrite, monkeypatch, tmp_path):
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("ctsynth.phantom.dataset._write", lambda case: write_half(case, full))
    done = ctsynth("phantom", tmp_path, "--subjects", 1, *(["--overwrite"] if overwrite else []))
    hint = " hint: free some space, then run the same command again: finished work is kept"
    left_out = "; leave out --overwrite, which starts over"
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == hint + (left_out if overwrite else "")


def write_half(case, error):
    with atomic(case.image):
        raise error


def ending_in(error, monkeypatch, *flags):
    def broken(_size):
        raise error

    monkeypatch.setattr("ctsynth.cli.info._found", broken)
    return ctsynth(*flags, "info")


def test_our_own_bug_is_called_one_with_version_and_place(monkeypatch):
    done = ending_in(ZeroDivisionError("division by zero"), monkeypatch)
    assert done.exit_code == 1
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: info: this is a bug in ctsynth {__version__}, please report it: ")
    assert re.search(r"ZeroDivisionError: division by zero \(cli/info.py:\d+\)$", error)
    assert "--verbose" in hint


def test_our_own_bug_keeps_its_traceback_if_verbose(monkeypatch):
    done = ending_in(RecursionError("too deep"), monkeypatch, "--verbose")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: info: this is a bug")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "x/y.npy"), "info: x/y.npy: Permission denied"),
        (OSError(5, "Input/output error"), "info: Input/output error"),
        (MemoryError(), "info: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "info: not enough memory"),
        (ImportError("libscipy.so: failed to map segment from shared object"), "info: not enough memory"),
    ],
    ids=repr,
)
def test_the_systems_own_errors_say_what_was_being_done(error, words, monkeypatch):
    done = ending_in(error, monkeypatch)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == f"error: {words}"


def test_an_error_is_printed_even_without_memory_for_colors(monkeypatch, capsys):
    def none_left():
        raise MemoryError

    monkeypatch.setattr(console, "stderr", none_left)
    console.show(DataError("x.nii: not enough memory"))
    assert capsys.readouterr().err == "error: x.nii: not enough memory\n"


def test_a_result_that_cannot_be_written_is_an_error(tmp_path, small_amos):
    preprocess = (
        f'"{sys.executable}" -m ctsynth -q preprocess "{small_amos(1, 1)}" "{tmp_path / "out"}" --workers 1'
    )
    for command in (preprocess, f'"{sys.executable}" -m ctsynth slurm'):
        full = subprocess.run(f"{command} >/dev/full", shell=True, capture_output=True, text=True)
        assert full.returncode == 1
        assert full.stderr == "error: stdout: cannot write the result: No space left on device\n"
    assert (tmp_path / "out" / "manifest.json").is_file()  # it is the message that was lost, not the work


@pytest.mark.parametrize("closed", ["0<&- 2>&-", "2>/dev/full", "2>&1 >&- | true"])
def test_a_closed_stdout_or_stderr_does_not_stop_the_work(closed, tmp_path, small_amos):
    command = f'"{sys.executable}" -m ctsynth preprocess "{small_amos(1, 1)}" "{tmp_path / "out"}" --workers 1'
    done = subprocess.run(f"{command} {closed}", shell=True, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert closed.endswith("true") or "2 made, 0 kept, 0 broken" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())  # and not lines of progress
    assert len(manifest["subjects"]) == 2


MARKUP = r"a[red]b [99] \[/] [/] \ :heart:"


def test_brackets_in_a_message_are_not_markup(capsys):
    console.show(UsageError(MARKUP, hint=MARKUP))
    assert capsys.readouterr().err == f"error: {MARKUP}\n hint: {MARKUP}\n"


def test_brackets_in_a_table_are_not_markup(capsys):
    table = Table()
    table.add_row(MARKUP)
    console.echo_table(table)
    assert f" {MARKUP} " in capsys.readouterr().out


def test_brackets_beside_a_progress_bar_are_not_markup(monkeypatch, capsys):
    console.configure(verbose=False, quiet=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with console.progress("preprocess", 2) as progress:
        progress(2, MARKUP)
    assert MARKUP in capsys.readouterr().err


def test_settings_that_a_message_names_are_shown_as_options(capsys):
    console.show(UsageError("`batch_size` 0: wanted 1", hint="see `ctsynth info`, or leave out `batch_size`"))
    assert capsys.readouterr().err == (
        "error: --batch-size 0: wanted 1\n hint: see `ctsynth info`, or leave out --batch-size\n"
    )


def test_no_color_is_honored(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.show(DataError("x"))
    assert "\x1b[1;31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    console.show(DataError("x"))
    assert "31m" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "shown"), [({}, "iw"), ({"quiet": True}, "w"), ({"verbose": True}, "diw")], ids=str
)
def test_quiet_keeps_warnings_and_verbose_tells_more(flags, shown, capsys):
    console.configure(**{"verbose": False, "quiet": False, **flags})
    log = logging.getLogger("ctsynth.data")
    log.debug("d")
    log.info("i")
    log.warning("w")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.replace("warning: ", "").replace("\n", "") == shown


def test_a_message_is_shown_once(capsys):
    console.configure(verbose=False, quiet=False)
    for name in ("one", "two", "one"):
        logging.getLogger("ctsynth").warning("%s has no body label", name)
    assert capsys.readouterr().err == "warning: one has no body label\nwarning: two has no body label\n"


def test_progress_without_a_terminal_is_a_plain_line_at_the_end(capsys):
    console.configure(verbose=False, quiet=False)
    with console.progress("train", 3) as progress:
        for done in range(4):
            progress(done, f"step {done}")
    assert capsys.readouterr().err == "train: 3/3, step 3\n"
