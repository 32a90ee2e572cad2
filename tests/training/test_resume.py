"""A run that is broken off and continued by the same command ends in the same bytes as one that is not."""

import json
import os
import re
import signal
import sys
import time

import forked_commands
import pytest
import torch
from safetensors.torch import load_file
from small_runs import SMALL, ctsynth, fit, settings, weights
from small_stores import both_splits

from ctsynth.config import RunConfig
from ctsynth.errors import Interrupted
from ctsynth.stop import Stop
from ctsynth.training import checkpoint
from ctsynth.training.sheet import SampleSheet
from ctsynth.training.stepper import Stepper

TOY_GAN = '''
"""A method in one file: a generator and a discriminator, batch norm and dropout."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ctsynth.methods.base import Method, Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    channels: int = 4
    dropout: float = 0.3


class ToyGAN(Method):
    title = "Toy GAN"
    Options = Options

    def __init__(self, options, *, num_classes, size):
        super().__init__(options, num_classes=num_classes, size=size)
        self.num_classes, width = num_classes, options.channels
        self.generator = nn.Sequential(
            nn.Conv2d(num_classes + 1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Dropout(options.dropout), nn.Conv2d(width, 1, 3, padding=1), nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(num_classes + 1, width, 4, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 1, 3)
        )

    def phases(self):
        yield Phase("generator", list(self.generator.parameters()), 1e-3, (0.0, 0.9))
        yield Phase("discriminator", list(self.discriminator.parameters()), 2e-3, (0.0, 0.9))

    def _judge(self, image, labels):
        return self.discriminator(torch.cat([image, self._encode(labels)], 1))

    def _encode(self, labels):
        return F.one_hot(labels, self.num_classes).permute(0, 3, 1, 2).float()

    def loss(self, phase, batch, rng):
        drawn = self.generate(batch.labels, rng=rng)
        if phase == "generator":
            assert not any(p.requires_grad for p in self.discriminator.parameters())
            l1 = (drawn - batch.image).abs().mean()
            return {"loss": 10 * l1 - self._judge(drawn, batch.labels).mean(), "l1": l1}
        assert not any(p.requires_grad for p in self.generator.parameters())
        real, fake = self._judge(batch.image, batch.labels), self._judge(drawn.detach(), batch.labels)
        return {"loss": F.relu(1 - real).mean() + F.relu(1 + fake).mean()}

    def generate(self, labels, *, rng, sampler=None):
        return self.generator(torch.cat([rng.normal("z", (1, *labels.shape[1:])), self._encode(labels)], 1))
'''


@pytest.fixture
def store(tmp_path, small_case):
    return both_splits(tmp_path / "out", small_case)


@pytest.fixture
def toy_gan(tmp_path, monkeypatch):
    (tmp_path / "own" / "methods").mkdir(parents=True)
    (tmp_path / "own" / "methods" / "toy_gan.py").write_text(TOY_GAN)
    monkeypatch.setenv("CTSYNTH_PLUGINS", str(tmp_path / "own"))
    yield "toy-gan"
    sys.modules.pop("ctsynth.methods.toy_gan", None)


class Asked(Stop):
    """A signal that arrives when it has been looked for so many times."""

    def __init__(self, after):
        self.after, self.number = after, None
        super().__init__()

    @property
    def requested(self):
        self.after -= 1
        return signal.SIGTERM if self.after < 0 else None

    @requested.setter
    def requested(self, number):
        pass


DROPOUT = {"options": {"dropout": 0.2}}
ALL, FEW = (1, 2, 4, 5, 7, 10), (2, 5, 10)
CASES = [
    ("ddpm-concat", DROPOUT, FEW),
    ("ddpm-concat", DROPOUT | {"accumulate": 2}, ALL),
    ("toy-gan", DROPOUT, FEW),
    ("toy-gan", DROPOUT | {"accumulate": 2}, ALL),
    *((method, {}, FEW) for method in SMALL),
    ("edm-volume", {"accumulate": 2}, FEW),
]
"""Method, training, and after how many looks for a signal there is one.

A step looks before it begins, then before each part of its first phase: of steps of one part, two looks are before
the second step, five within the third, ten before the last.
"""


@pytest.mark.parametrize(("method", "training", "stops"), CASES)
def test_stopped_and_continued_is_unbroken(tmp_path, small_case, toy_gan, method, training, stops):
    store = both_splits(tmp_path / "out", small_case, size=32 if method in SMALL else 16)
    training = training | {"save_every": 100}
    whole = fit(store, tmp_path / "whole", method, **training)
    for after in stops:
        broken = tmp_path / f"broken{after}"
        with pytest.raises(Interrupted, match=r"SIGTERM at step \d+: saved"):
            fit(store, broken, method, stop=Asked(after), **training)
        (stopped,) = checkpoint.saved(broken)
        assert checkpoint.step_of(stopped) < 6
        fit(store, broken, method, **training)
        assert weights(broken, 6) == weights(whole, 6)
        assert rows(broken) == rows(whole)


def rows(run):
    """Of metrics.jsonl, keys in their order, without the speed."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [list(row.items()) for row in found if row.pop("images_per_s") > 0]


def test_a_stop_within_a_batch_leaves_the_step_undone(store, tmp_path, toy_gan):
    whole = fit(store, tmp_path / "whole", toy_gan, iterations=1, accumulate=4)
    for parts in range(4):  # of the second step: a step looks once, then once a part of its first phase
        run = tmp_path / f"run{parts}"
        with pytest.raises(Interrupted, match="at step 1"):
            fit(store, run, toy_gan, stop=Asked(6 + parts), accumulate=4, save_every=100)
        assert weights(run, 1) == weights(whole, 1)


@pytest.mark.parametrize(
    ("method", "options"),
    [("ddpm-concat", {}), ("ddpm-concat", {"dropout": 0.5}), ("sdm", {"dropout": 0.5}), ("unet2d", {})],
)
def test_parts_of_a_batch_add_up_to_it(store, tmp_path, monkeypatch, method, options):
    """With plain gradient descent, whose steps follow the gradient's size too."""
    monkeypatch.setattr(torch.optim, "Adam", lambda weights, lr, **_: torch.optim.SGD(weights, lr))
    training = {"iterations": 3, "lr": 0.1, "warmup": 0, "options": options}
    runs = [fit(store, tmp_path / f"{parts}", method, accumulate=parts, **training) for parts in (1, 2, 4)]
    before = checkpoint.make_model(RunConfig.read(runs[0] / "config.json")).state_dict()
    whole, *others = [load_file(checkpoint.find(run) / "model.safetensors") for run in runs]
    moved = max((whole[name] - before[name]).abs().max() for name in whole)
    for other in others:
        assert max((other[name] - whole[name]).abs().max() for name in whole) < 1e-4 * moved


UNENDING = ["--iterations", 1_000_000]
"""However busy the machine is, such a run does not end before it is broken off."""


def until(step, run, process):
    """Waits until a run has saved a step."""
    while newest(run) < step:
        assert process.is_alive(), (run.parent / "err").read_text()
        time.sleep(0.002)


def newest(run):
    return max(map(checkpoint.step_of, checkpoint.saved(run)), default=0)


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ("ddpm-mask", {"accumulate": 2}),
        ("spade", {}),
        ("oasis", {}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("toy-gan", {}), ("pix2pix", {}), ("edm", {}), ("edm-volume", {"accumulate": 2}))
        ),
    ],
)
def test_killed_at_any_moment_and_continued_is_unbroken(tmp_path, small_case, toy_gan, method, training):
    store = both_splits(tmp_path / "data", small_case, size=32 if method in SMALL else 16)
    (tmp_path / "more.toml").write_text("[training]\nlog_every = 5\nnorm_batches = 2\n")
    words = ["train", *settings(method, **{"save-every": 3} | training), "--data", store.root]
    words += ["--config", tmp_path / "more.toml"]
    if method == "ddpm-mask":
        words += ["--set", "encoder_channels=8"]
    broken = tmp_path / "broken"
    for kill in range(3):
        process = forked_commands.start([*words, *UNENDING, "--out", broken], tmp_path)
        until(newest(broken) + 3, broken, process)
        time.sleep(0.037 * (kill + 1) / 3)  # on by a time that is no round number
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = newest(broken) + 4
    words += ["--iterations", last]
    for run in (broken, tmp_path / "whole"):
        done = ctsynth(*words, "--out", run)
        assert done.exit_code == 0, done.stderr
    assert weights(broken, last) == weights(tmp_path / "whole", last)
    assert rows(broken) == rows(tmp_path / "whole")
    assert not list(broken.rglob(".partial-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_signal_saves_and_exits_with_75(tmp_path, small_case, number):
    store = both_splits(tmp_path / "data", small_case)
    words = ["train", *settings(**{"save-every": 10}), "--data", store.root]
    process = forked_commands.start([*words, *UNENDING, "--out", "run"], tmp_path)
    until(10, tmp_path / "run", process)
    os.kill(process.pid, number)
    process.join()
    out, err = ((tmp_path / name).read_text() for name in ("out", "err"))
    assert process.exitcode == 75, err
    assert out == ""
    found = re.search(rf"error: {number.name} at step (\d+): saved run\n hint: the same command continues", err)
    assert found, err
    step = int(found[1])
    assert (tmp_path / "run" / "latest").read_text() == f"step_{step:09d}\n"
    assert "Traceback" not in err
    assert "\x1b" not in err  # no terminal, no colors
    last = step + 7
    words += ["--iterations", last]
    done = ctsynth(*words, "--out", tmp_path / "run")
    assert f"continuing {tmp_path / 'run'} at step {step}" in done.stderr
    whole = ctsynth(*words, "--out", tmp_path / "whole")
    assert (done.exit_code, whole.exit_code) == (0, 0)
    assert weights(tmp_path / "run", last) == weights(tmp_path / "whole", last)


@pytest.mark.parametrize("step", [2, 6])
def test_a_signal_while_a_sheet_is_drawn_breaks_it_off_and_the_next_run_draws_it(
    store, tmp_path, monkeypatch, step
):
    draw = SampleSheet.draw

    def slow(self, method, path, at, iterations):
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)
        draw(self, method, path, at, iterations)

    monkeypatch.setattr(SampleSheet, "draw", slow)
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"step {step}"), Stop() as stop:
        fit(store, run, stop=stop, sample_every=2, pictures=True)
    names = [f"step_{n:09d}.png" for n in (2, 4, 6)]
    assert (
        sorted(path.name for path in (run / "samples").glob("*")) == names[: names.index(f"step_{step:09d}.png")]
    )
    monkeypatch.undo()
    fit(store, run, sample_every=2, pictures=True)
    assert sorted(path.name for path in (run / "samples").glob("*")) == names
    assert weights(run, 6) == weights(fit(store, tmp_path / "whole"), 6)


def test_longer_training_continues_a_finished_run(store, tmp_path):
    fit(store, tmp_path / "run", iterations=3)
    fit(store, tmp_path / "run", iterations=6)
    assert weights(tmp_path / "run", 6) == weights(fit(store, tmp_path / "whole"), 6)


def test_a_finished_run_is_not_trained_again(store, tmp_path, monkeypatch):
    run = fit(store, tmp_path / "run")
    before = weights(run, 6)
    monkeypatch.setattr(Stepper, "_optimize", None)
    assert weights(fit(store, run), 6) == before


def test_other_seeds_train_other_weights(store, tmp_path):
    runs = [weights(fit(store, tmp_path / f"run{seed}", seed=seed, iterations=2), 2) for seed in range(2)]
    assert runs[0] != runs[1]


def test_a_user_method_trains_and_draws_with_nothing_else_changed(store, tmp_path, toy_gan):
    words = ["train", "--method", toy_gan, "--data", store.root, "--out", tmp_path / "run", "--batch-size", 4]
    done = ctsynth(*words, "--iterations", 4, "--set", "channels=8", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    sample = ["sample", "--data", store.root, "--model", tmp_path / "run", "--out", tmp_path / "drawn"]
    drawn = ctsynth(*sample)
    assert drawn.exit_code == 0, drawn.stderr
    assert drawn.stdout == f"{tmp_path}/drawn/subject_t.nii.gz\n"
    refused = ctsynth(*sample, "--sampler", "ddim")
    assert refused.exit_code == 2
    assert "toy-gan does not take the sampler 'ddim'" in refused.stderr
