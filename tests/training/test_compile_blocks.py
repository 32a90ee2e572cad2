import shutil
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch._dynamo
from small_runs import CPU, OPTIONS, SMALL, ctsynth, fit, settings, weights
from small_stores import both_splits
from torch._dynamo.utils import counters

from ctsynth.data.loader import SliceDataset
from ctsynth.device import check_compiler
from ctsynth.errors import UsageError
from ctsynth.methods import base
from ctsynth.randomness import BatchRNG
from ctsynth.training import checkpoint
from ctsynth.training.compile_blocks import blocks, compile_model
from ctsynth.training.configure import configure
from ctsynth.training.dryrun import count

WITH_BLOCKS = [name for name in base.method_names() if base.find_method(name).blocks]


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
        count(replace(run, training=replace(run.training, checkpointing=again)), CPU, 2 * run.window)
        for again in (False, True)
    )
    assert recomputed.memory["activations"] < 0.5 * kept.memory["activations"]
    assert kept.flops < recomputed.flops < 1.34 * kept.flops


def test_a_run_may_go_on_with_its_blocks_computed_twice(store, tmp_path):
    whole = fit(store, tmp_path / "whole")
    fit(store, tmp_path / "run", iterations=4)
    assert weights(fit(store, tmp_path / "run", checkpointing=True), 6) == weights(whole, 6)


def test_a_method_without_blocks_refuses(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method in set(base.method_names()) - set(WITH_BLOCKS):
        with pytest.raises(UsageError, match=f"{method} does not take `checkpointing`"):
            configure(store, method, preset="tiny", options={}, training={"checkpointing": True}, device=CPU)
    done = ctsynth("train", *settings(iterations=1), "--checkpointing")
    assert done.exit_code == 0, done.stderr


@pytest.mark.filterwarnings("ignore")  # torch has some about itself
def test_blocks_of_equal_shapes_share_a_graph_and_no_step_makes_another(store, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # graphs without code for them
    torch._dynamo.reset()
    counters.clear()
    model = checkpoint.make_model(
        configure(store, "ddpm-mask", preset="tiny", options={}, training={}, device=CPU)
    )
    shapes = set()
    for block in blocks(model):
        block.register_forward_pre_hook(
            lambda block, given: shapes.add((given[0].shape, block.conv_in.out_channels, block.time is None))
        )
    compile_model(model, CPU)
    for step in range(2):
        draws = BatchRNG.at([(step, row) for row in range(4)], CPU)
        model.loss("denoiser", SliceDataset(store, "train").batch(range(4), CPU), draws)["loss"].backward()
    assert counters["stats"]["unique_graphs"] == len(shapes) < len(blocks(model))


@pytest.mark.filterwarnings("ignore")  # torch has some about itself
@pytest.mark.parametrize(
    ("method", "graphs"), [("ddpm-mask", 2), ("sdm", 2), ("edm", 2), ("edm-volume", 2), ("spade", 4), ("oasis", 4)]
)
def test_on_a_gpu_each_network_is_one_graph_a_phase_and_no_step_makes_another(store, monkeypatch, method, graphs):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    torch._dynamo.reset()
    counters.clear()
    options = SMALL.get(method, OPTIONS)
    if method in ("spade", "oasis"):
        options = options | {"multipliers": [2, 1]}  # each layer more takes long to trace
    run = configure(store, method, preset="tiny", options=options, training={}, device=CPU)
    model = checkpoint.make_model(run)
    compile_model(model, torch.device("cuda"))  # which decides on graphs alone; the tensors stay on the CPU
    for step in range(2):
        draws = BatchRNG.at([(step, row) for row in range(4)], CPU)
        for phase in model.phases():
            model.loss(phase.name, SliceDataset(store, "train").batch(range(4), CPU), draws)["loss"].backward()
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.parametrize(
    ("device", "iterations", "triton", "named", "compiled"),
    [
        ("cuda", 5000, True, {}, True),
        ("cuda", 4999, True, {}, False),
        ("cuda", 5000, False, {}, False),
        ("cuda", 5000, True, {"compile": False}, False),
        ("cuda", 10, True, {"compile": True}, True),
        ("cpu", 5000, True, {}, False),
    ],
)
def test_long_runs_on_a_gpu_are_compiled_unless_something_speaks_against(
    store, monkeypatch, caplog, device, iterations, triton, named, compiled
):
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: triton)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    training = {"iterations": iterations, **named}
    run = configure(
        store, "ddpm-concat", preset="tiny", options={}, training=training, device=torch.device(device)
    )
    assert run.training.compile is compiled
    assert ("finds none; training without" in caplog.text) is not triton


def test_compile_without_a_compiler_is_refused_before_the_run(store):
    from torch._inductor import config

    without = config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with without, pytest.raises(UsageError, match=r"`compile` on cpu: torch.compile wants a C\+\+ compiler"):
        configure(store, "ddpm-concat", preset="tiny", options={}, training={"compile": True}, device=CPU)


@pytest.mark.parametrize(
    ("triton", "compiler", "missing"),
    [(False, True, "Triton, "), (True, False, "a C compiler"), (True, True, None)],
)
def test_a_gpu_wants_triton_and_triton_a_c_compiler(monkeypatch, triton, compiler, missing):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: triton)
    monkeypatch.setattr(shutil, "which", lambda name: name if compiler else None)
    wanted = pytest.raises(UsageError, match=f"`compile` on cuda.* wants {missing}") if missing else nullcontext()
    with wanted:
        check_compiler(torch.device("cuda"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch has some about itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler for a CPU")
def test_compiled_blocks_train_as_the_others_do(store, tmp_path):
    few = {"multipliers": [1]}  # blocks, of two shapes; each costs g++ some ten seconds
    plain, compiled = (
        checkpoint.load(
            checkpoint.find(fit(store, tmp_path / str(how), options=few, iterations=2, compile=how)), CPU, raw=True
        )
        for how in (False, True)
    )
    before = checkpoint.make_method(plain.config).state_dict()
    moved = 0.0
    for name, weight in plain.method.state_dict().items():
        torch.testing.assert_close(compiled.method.state_dict()[name], weight, rtol=0, atol=1e-4, msg=name)
        moved = max(moved, float((weight - before[name]).abs().max()))
    assert moved > 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch has some about itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler for a CPU")
def test_a_compiled_run_stopped_and_continued_is_unbroken(store, tmp_path):
    few = {"options": {"multipliers": [1]}, "compile": True}
    fit(store, tmp_path / "whole", iterations=4, **few)
    fit(store, tmp_path / "broken", iterations=2, **few)
    torch._dynamo.reset()  # as in a new process
    fit(store, tmp_path / "broken", iterations=4, **few)
    assert weights(tmp_path / "broken", 4) == weights(tmp_path / "whole", 4)
