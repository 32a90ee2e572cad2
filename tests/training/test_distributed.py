"""Ranks that share a batch do together what one rank does alone."""

import json
import os

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file
from trained import CPU, SMALL, both_splits, fit

from ctsynth.data.store import Store
from ctsynth.errors import UsageError
from ctsynth.training import checkpoint
from ctsynth.training.distributed import ALONE, World, find_world, joined
from ctsynth.training.launch import _free_port

METHODS = ["ddpm-concat", "ddpm-mask", "ddpm-edge", *SMALL]
TRAINING = {"iterations": 5, "save_every": 5, "log_every": 1, "lr": 1e-4}


def options(method):
    return {"encoder_channels": 8} if method in ("ddpm-mask", "ddpm-edge") else {}


def work(rank, size, port, root):
    """What each process does: every method, one after the other."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    world = World(rank, size, rank)
    with joined(world, CPU):
        for method in METHODS:
            store, run = Store.open(root / "store"), root / f"{method}-{size}"
            fit(store, run, method, options=options(method), world=world, **TRAINING)
        fit(store, root / "parts", "oasis", world=world, accumulate=2, **TRAINING | {"batch_size": 8})
        fit(Store.open(root / "store"), root / "elastic", world=world, **TRAINING)  # which one rank has begun


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A folder with a run of every method, by two ranks and by one."""
    from conftest import make_small_case

    root = tmp_path_factory.mktemp("ranks")
    both_splits(root / "store", make_small_case, size=32)
    store = Store.open(root / "store")
    fit(store, root / "elastic", **TRAINING | {"iterations": 2})
    multiprocessing.start_processes(work, (2, _free_port(), root), nprocs=2, start_method="spawn")
    for method in METHODS:
        fit(store, root / f"{method}-1", method, options=options(method), **TRAINING)
    fit(store, root / "whole", "oasis", **TRAINING | {"batch_size": 8})
    return root


def moved_by_gradients(path):
    """Of each parameter the elements whose gradient is more than rounding.

    That of a bias before a normalization is zero but for rounding, which Adam makes steps as long as any other of.
    """
    method = checkpoint.load(path, CPU, raw=True).method
    optimizers = checkpoint.load_trainer(path)["optimizers"]
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    moved = {}
    for phase in method.phases():
        state = optimizers[phase.name]["state"]
        sizes = {names[id(p)]: state[n]["exp_avg_sq"].sqrt() for n, p in enumerate(phase.parameters)}
        largest = max(size.max() for size in sizes.values())
        moved |= {name: size > 1e-6 * largest for name, size in sizes.items()}
    return moved


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_alike(a, b):
    a_path, b_path = checkpoint.find(a), checkpoint.find(b)
    ours, theirs = (load_file(path / "model.safetensors") for path in (a_path, b_path))
    moved = moved_by_gradients(b_path)
    share = sum(int(chosen.sum()) for chosen in moved.values()) / sum(m.numel() for m in moved.values())
    assert share > 0.05, share  # labels that no slice has, and what lies behind layers that begin at zero, rest
    for name, value in ours.items():
        chosen = moved.get(name, ...)
        # Power iteration divides a weight's difference by the gap between the two largest singular values.
        atol = 1e-4 if name.endswith((".u", ".v")) else 1e-5
        torch.testing.assert_close(
            value[chosen], theirs[name][chosen], atol=atol, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
    for row, other in zip(rows(a), rows(b), strict=True):
        for name in row.keys() - {"images_per_s"}:
            assert row[name] == pytest.approx(other[name], rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_are_one(together, method):
    assert_alike(together / f"{method}-2", together / f"{method}-1")


def test_a_run_of_one_rank_goes_on_with_two(together):
    assert_alike(together / "elastic", together / "ddpm-concat-1")


def test_batch_statistics_apart_ranks_may_accumulate(together):
    """Batch normalization sees parts; OASIS's class weights and draws see the whole batch all the same."""
    ours, whole = rows(together / "parts")[0], rows(together / "whole")[0]
    assert ours["generator_loss"] == pytest.approx(whole["generator_loss"], rel=0.05)


@pytest.mark.parametrize(
    ("env", "world"),
    [
        ({}, ALONE),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, World(3, 8, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, ALONE),  # a batch script, whose step has not begun
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}, World(1, 2, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, ALONE),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"}, World(0, 2, 0)),
    ],
)
def test_ranks_come_from_torchrun_or_a_slurm_step(env, world):
    assert find_world(env) == world


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path, small_case):
    store = both_splits(tmp_path / "store", small_case)
    with pytest.raises(
        UsageError, match=r"batch_size \(4\) must divide by accumulate \(1\) times the ranks \(3\)"
    ):
        fit(store, tmp_path / "run", world=World(0, 3, 0))
