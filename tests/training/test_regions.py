import shutil
from dataclasses import replace

import pytest
import torch
from trained import CPU, OPTIONS, SMALL, both_splits, ctsynth, fit, settings, weights

from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.training import checkpoint
from ctsynth.training.dryrun import count
from ctsynth.training.run import configure

WITH_BLOCKS = [name for name in base.names() if base.find(name).blocks]


@pytest.fixture
def store(tmp_path, small_case):
    return both_splits(tmp_path / "out", small_case)


@pytest.mark.parametrize("method", WITH_BLOCKS)
def test_blocks_that_are_computed_twice_give_the_same_weights(store, tmp_path, method):
    options = SMALL.get(method, OPTIONS) | {"dropout": 0.2}  # which draws, and must draw the same
    kept, recomputed = (
        fit(store, tmp_path / str(again), method, options=options, iterations=3, checkpointing=again)
        for again in (False, True)
    )
    assert weights(kept, 3) == weights(recomputed, 3)


@pytest.mark.parametrize("method", WITH_BLOCKS)
def test_blocks_that_are_computed_twice_keep_less_than_half(store, method):
    run = replace(configure(store, method, preset="tiny", options={}, training={}, device=CPU), size=64)
    kept, recomputed = (
        count(replace(run, training=replace(run.training, checkpointing=again)), CPU, 2) for again in (False, True)
    )
    assert recomputed.memory["activations"] < 0.5 * kept.memory["activations"]
    assert kept.flops < recomputed.flops < 1.34 * kept.flops


def test_a_run_may_go_on_with_its_blocks_computed_twice(store, tmp_path):
    whole = fit(store, tmp_path / "whole")
    fit(store, tmp_path / "run", iterations=4)
    assert weights(fit(store, tmp_path / "run", checkpointing=True), 6) == weights(whole, 6)


def test_a_method_without_blocks_refuses(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method in set(base.names()) - set(WITH_BLOCKS):
        with pytest.raises(UsageError, match=f"{method} does not take --checkpointing"):
            configure(store, method, preset="tiny", options={}, training={"checkpointing": True}, device=CPU)
    done = ctsynth("train", *settings(iterations=1), "--checkpointing")
    assert done.exit_code == 0, done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch has some about itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler for a CPU")
def test_compiled_blocks_train_as_the_others_do(store, tmp_path):
    plain, compiled = (
        checkpoint.load(checkpoint.find(fit(store, tmp_path / str(how), iterations=2, compile=how)), CPU, raw=True)
        for how in (False, True)
    )
    before = checkpoint.make_method(plain.config).state_dict()
    moved = 0.0
    for name, weight in plain.method.state_dict().items():
        torch.testing.assert_close(compiled.method.state_dict()[name], weight, rtol=0, atol=1e-4, msg=name)
        moved = max(moved, float((weight - before[name]).abs().max()))
    assert moved > 1e-3
