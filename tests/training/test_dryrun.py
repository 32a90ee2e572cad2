import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import pytest
import torch
from small_cases import make_small_case
from small_runs import CPU, OPTIONS, SMALL, TRAINING, ctsynth, fit, settings
from small_stores import both_splits

from ctsynth.labels import AMOS22
from ctsynth.methods import base
from ctsynth.networks.blocks import AttentionBlock
from ctsynth.training import checkpoint, dryrun
from ctsynth.training.activations import SavedActivations
from ctsynth.training.configure import configure
from ctsynth.training.cost import cost, flop_counter
from ctsynth.training.dryrun import count, forecast


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return both_splits(tmp_path_factory.mktemp("store"), make_small_case, size=64)


def config(store, method, *, preset="paper", options=None, **training):
    small = SMALL.get(method, OPTIONS) if options is None else options
    return configure(store, method, preset=preset, options=small, training=TRAINING | training, device=CPU)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("method", base.method_names())
def test_every_method_is_forecast_with_the_parameters_of_info(store, method):
    options = {"window": 2} if method == "edm-volume" else {}
    run = config(store, method, preset="tiny", options=options, batch_size=2)
    with mock.patch.multiple(dryrun, MOST_STEPS=2, TRIAL_SECONDS=1e9):
        found = forecast(store, run, CPU)
    counted = cost(method, preset="tiny", num_classes=AMOS22.num_classes, size=64)
    assert found.parameters == counted.parameters
    assert (found.batch, found.steps) == (2, 2)
    assert found.seconds == pytest.approx(run.training.iterations * 2 / found.images_per_s)
    if base.find_method(method).samplers:
        # a backward pass is two forward passes, less where no gradient is wanted
        assert 2.5 * 2 * counted.flops < found.flops <= 3 * 2 * counted.flops


def test_flops_of_attention_are_those_of_its_products():
    channels, places = 64, 16 * 16
    block, x = AttentionBlock(channels, 4), torch.zeros(1, channels, 16, 16)
    with flop_counter() as counter:
        block(x)
    projections = 2 * places * channels * (3 * channels + channels)
    assert counter.get_total_flops() == projections + 2 * 2 * places**2 * channels


def test_a_forecast_of_two_ranks_is_that_of_the_share_of_one(store):
    run = config(store, "ddpm-concat", batch_size=4)
    with mock.patch.object(dryrun, "_elapsed", lambda stepper: stepper.settings.batch_size / 10):
        one, two = (forecast(store, run, CPU, ranks=ranks) for ranks in (1, 2))
    assert (one.batch, two.batch) == (4, 2)
    assert two.images_per_s == pytest.approx(2 * one.images_per_s)
    assert two.memory["activations"] == pytest.approx(one.memory["activations"] / 2)
    assert two.flops == one.flops


def test_parts_of_a_batch_keep_less_and_take_as_many_flops(store):
    run = config(store, "ddpm-concat", batch_size=4)
    parts = replace(run, training=replace(run.training, accumulate=4))
    with mock.patch.object(dryrun, "_elapsed", return_value=0.1):
        whole, in_parts = (forecast(store, each, CPU) for each in (run, parts))
    assert in_parts.memory["activations"] == pytest.approx(whole.memory["activations"] / 4, rel=0.01)
    assert in_parts.flops == whole.flops


def test_steps_that_would_take_too_long_or_too_much_memory_are_measured_on_fewer_slices():
    memory = {"weights": 10, "activations": 1600}
    assert dryrun._affordable(0.1, memory, whole=16, accumulate=1) == 16
    assert dryrun._affordable(1.0, memory, whole=16, accumulate=1) == 10
    assert dryrun._affordable(60.0, memory, whole=16, accumulate=1) == 1
    with mock.patch("os.sysconf", {"SC_PAGE_SIZE": 2, "SC_PHYS_PAGES": 510}.get):  # a half is 510: five slices
        assert dryrun._affordable(0.1, memory, whole=16, accumulate=1) == 5
        assert dryrun._affordable(0.1, {"activations": 400}, whole=16, accumulate=4) == 16
        assert dryrun._affordable(0.1, {"weights": 1e6, "activations": 400}, whole=16, accumulate=4) == 1


def test_a_slow_first_step_does_not_make_the_timed_ones_smaller(store):
    taken = []

    def elapsed(stepper):
        taken.append(stepper.settings.batch_size)
        return 6.0 if len(taken) == 1 else 0.1 * stepper.settings.batch_size

    with mock.patch.object(dryrun, "_elapsed", elapsed):
        found = forecast(store, config(store, "ddpm-concat", batch_size=8), CPU)
    assert (found.batch, found.images_per_s) == (8, pytest.approx(10))
    assert taken == [1, 1, *[8] * (1 + dryrun.MOST_STEPS)]


def test_a_checkpoint_has_the_predicted_size(store, tmp_path):
    options = OPTIONS | {"channels": 32}
    found = count(config(store, "ddpm-concat", options=options), CPU, 1)
    run = fit(store, tmp_path / "run", options=options, iterations=1)
    written = sum(path.stat().st_size for path in checkpoint.find(run).iterdir())
    assert written == pytest.approx(found.checkpoint, rel=0.05)


def test_each_storage_that_autograd_keeps_counts_once_until_the_backward_pass_lets_go():
    weight, x = torch.rand(10, requires_grad=True), torch.rand(10, requires_grad=True)
    kept = SavedActivations([weight])
    with kept.counting():
        y = (x * weight).exp()  # keeps x, and what exp returns; the weight is there anyway
        z = y.exp() + y[:5].sum()
    assert kept.most == kept.now == 4 * 30
    z.sum().backward()
    assert kept.now == 0
    with kept.counting():
        x.exp().sum().backward()
    assert (kept.most, kept.now) == (4 * 30, 0)


ACTUAL = """
import sys
from pathlib import Path
import torch
from small_runs import CPU
from ctsynth.data.loader import SliceDataset
from ctsynth.data.store import Store
from ctsynth.stop import Stop
from ctsynth.training.stepper import Stepper
from ctsynth.training.configure import configure

def status(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) * 1024

def stepper(**options):
    run = configure(store, "ddpm-concat", preset="tiny", options=options, training={"batch_size": 8}, device=CPU)
    return Stepper(run, SliceDataset(store, "train"), device=CPU, precision="fp32")

torch.set_num_threads(1)
store = Store.open(Path(sys.argv[1]))
stepper(channels=4, multipliers=[1, 1]).advance(Stop())  # so that what torch itself loads does not count
before, run = status("VmRSS"), stepper()
run.advance(Stop())
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells how much memory a process had")
def test_a_steps_memory_is_within_a_factor_of_1_6_of_the_forecast(store):
    run = config(store, "ddpm-concat", preset="tiny", options={}, batch_size=8)
    counted = sum(count(run, CPU, 8).memory.values())
    words = [sys.executable, "-c", ACTUAL, store.root]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    actual = int(subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout)
    assert abs(math.log(actual / counted)) < math.log(1.6)


@pytest.fixture
def folder(store, tmp_path, monkeypatch):
    (tmp_path / "out").symlink_to(store.root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dryrun, "MOST_STEPS", 1)
    return tmp_path


def test_a_dry_run_prints_a_table_and_writes_nothing(folder):
    ctsynth("train", *settings(iterations=2))
    before = files(folder)
    done = ctsynth("train", *settings(iterations=600), "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert files(folder) == before
    names = [line[:13].strip() for line in done.stdout.splitlines()]
    assert names == [
        "method", "device", "parameters", "a step", "memory", "speed", "to the end", "a checkpoint",
    ]  # fmt: skip


def test_a_dry_run_that_is_stopped_says_so_and_exits_with_75(folder, monkeypatch):
    monkeypatch.setattr(dryrun, "_elapsed", lambda trainer: os.kill(os.getpid(), signal.SIGTERM) or 1.0)
    done = ctsynth("train", *settings(), "--dry-run")
    assert (done.exit_code, done.stdout) == (75, "")
    assert "stopped by SIGTERM" in done.stderr
    assert not (folder / "runs").exists()
