import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ctsynth.cli.app import app
from ctsynth.errors import Interrupted, InterruptedByUser
from ctsynth.stop import SIGNALS, Stop, Stopped, stoppable

SCHEDULERS = [signal.SIGTERM, signal.SIGUSR1]


def arrives(number):
    os.kill(os.getpid(), number)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


def test_without_a_signal_the_old_handlers_are_restored():
    before = handlers()
    with Stop() as stop, stoppable():
        assert stop.requested is None
    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered(number):
    with Stop() as stop:
        arrives(number)
        assert stop.requested is number


def test_a_signal_interrupts_interruptible_work_only():
    done = []
    with Stop() as stop:
        with pytest.raises(Stopped), stop.interruptible():  # noqa: PT012  how far it comes is the point
            done.append("begun")
            arrives(signal.SIGTERM)
            done.append("ended")
        arrives(signal.SIGTERM)
        done.append("went on")
        with pytest.raises(Stopped), stop.interruptible():
            done.append("not begun")
    assert done == ["begun", "went on"]


@pytest.mark.parametrize("second", SCHEDULERS)
@pytest.mark.parametrize("first", SIGNALS)
def test_a_second_signal_does_not_interrupt_the_save(first, second):
    with Stop() as stop:
        arrives(first)
        arrives(second)
    arrives(second)
    assert stop.requested is first


@pytest.mark.parametrize("first", SCHEDULERS)
def test_a_second_ctrl_c_stops_at_once_and_a_third_waits_for_nothing(first):
    with Stop():
        arrives(first)
        arrives(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            arrives(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_broad_except_clauses_do_not_swallow_a_stop():
    with pytest.raises(Interrupted), stoppable():  # noqa: PT012  where it passes through is the point
        try:
            arrives(signal.SIGTERM)
        except Exception:
            pytest.fail("swallowed")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_exit_code_says_whether_to_queue_again(number):
    with pytest.raises(Interrupted, match=f"stopped by {number.name}") as left, stoppable():
        arrives(number)
    assert left.value.exit_code == (130 if number is signal.SIGINT else 75)
    assert isinstance(left.value, InterruptedByUser) == (number is signal.SIGINT)


COMMANDS = {
    "report scores.json": "ctsynth.reporting.page.find_entries",
    "score samples": "ctsynth.data.store.Store.open",
    "preprocess amos out": "ctsynth.data.preprocess.find_cases",
    "phantom amos": "ctsynth.phantom.dataset._check",
    "deform seg.nii.gz": "ctsynth.data.deform.label_volumes",
    "export run model": "ctsynth.sharing.export.export",
    "weights verify": "ctsynth.weights.find",
    "slurm": "ctsynth.cli.slurm.console.echo",
    "info": "ctsynth.cli.info._found",
}
"""Commands that save nothing of their own, each with a function that it calls."""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_with_a_message_and_its_code(command, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(COMMANDS[command], lambda *_, **__: arrives(number))
    done = CliRunner().invoke(app, command.split())
    assert (done.exit_code, done.stdout) == (130 if number is signal.SIGINT else 75, "")
    assert done.stderr.splitlines()[-2:] == [
        f"error: stopped by {number.name}", " hint: run the same command again: finished work is kept"
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_exit_does_not_change_the_exit_code(number):
    """Each arrives where Python's own handlers are gone: after all else, and at the interpreter's very end."""
    program = f"""
import atexit, os, signal, sys
def arrives(*_):
    os.kill(os.getpid(), signal.{number.name})
class Last:
    def __del__(self, arrives=arrives):
        arrives()
sys.last_of_all = Last()
from ctsynth.cli import console, info
from ctsynth.cli.app import main
info._found = arrives
atexit.register(lambda: signal.{number.name} == signal.SIGINT or arrives())
sys.argv = ["ctsynth", "info"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == (130 if number is signal.SIGINT else 75), done.stderr
    assert f"error: stopped by {number.name}\n" in done.stderr
    assert "Traceback" not in done.stderr
