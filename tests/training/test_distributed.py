"""Ranks that share a batch do together what one rank does alone."""

import json
import os
import time
from dataclasses import fields
from functools import partial

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file
from small_cases import make_small_case
from small_runs import CPU, SMALL, fit
from small_stores import both_splits

from ctsynth import trainable
from ctsynth.data.store import Store
from ctsynth.errors import UsageError
from ctsynth.training import checkpoint
from ctsynth.training.distributed import (
    ALONE,
    Consensus,
    World,
    _first_node,
    find_world,
    joined,
    synchronize_norms,
)
from ctsynth.training.launch import _free_port

METHODS = ["ddpm-concat", "ddpm-mask", "ddpm-edge", *SMALL]
TRAINING = {"iterations": 3, "save_every": 3, "log_every": 1, "lr": 1e-4}


def calm_adam():
    """Adam whose steps follow gradients and not their rounding.

    With its own epsilon it makes of a gradient that is zero but for rounding, as of a bias before a normalization,
    steps as long as of any other: in single precision a run of one rank then differs from itself on two threads.
    """
    return partial(torch.optim.Adam, eps=1e-3)


def options(method):
    """With dropout where a method has it, for a slice's must not depend on its rank."""
    known = {field.name for field in fields(trainable.find_model(method).Options)}
    return {name: value for name, value in {"encoder_channels": 8, "dropout": 0.3}.items() if name in known}


def work(rank, size, port, root):
    """What each process does: every method, one after the other."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.optim.Adam = calm_adam()
    world = World(rank, size, rank)
    with joined(world, CPU):
        torch.save(agreed(world, root / "ahead"), root / f"agreed-{rank}.pt")
        torch.save(normalized(slice(rank * 2, rank * 2 + 2), world), root / f"norm-{rank}.pt")
        for method in METHODS:
            store, run = Store.open(root / "store"), root / f"{method}-{size}"
            fit(store, run, method, options=options(method), world=world, **TRAINING)
        fit(store, root / "parts", "oasis", world=world, accumulate=2, **TRAINING | {"batch_size": 8})
        more = {"options": options("ddpm-concat"), **TRAINING}
        fit(store, root / "elastic", world=world, **more)  # which one rank has begun


def agreed(world, ahead):
    """What a rank gets that says 15 at its second of four steps; the other begins when it has ended its first."""
    consensus, found = Consensus(world), []
    for step in range(4):
        while step == 0 and not world.is_first and not ahead.exists():
            time.sleep(0.01)
        found.append(consensus(15 if step == 1 and not world.is_first else 0))
        if world.is_first:
            ahead.touch()
    return found


def normalized(share, world):
    """What batch normalization makes of a share of four slices, its gradients and its running statistics."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    x = torch.randn(4, 3, 5, 5)[share].requires_grad_()
    synchronize_norms(module, world, CPU)
    y = module(x * 3 + 2)
    (y**3).sum().backward()
    return {"y": y.detach(), "gradient": x.grad}, {
        name: value.float() for name, value in module[0].named_buffers()
    }


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A folder with a run of every method, by two ranks and by one."""
    root = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", calm_adam())
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        train_all(root)
        torch.set_num_threads(threads)
    return root


def train_all(root):
    both_splits(root / "store", make_small_case, size=32)
    store = Store.open(root / "store")
    fit(store, root / "elastic", options=options("ddpm-concat"), **TRAINING | {"iterations": 2})
    multiprocessing.start_processes(work, (2, _free_port(), root), nprocs=2, start_method="spawn")
    for method in METHODS:
        fit(store, root / f"{method}-1", method, options=options(method), **TRAINING)
    fit(store, root / "whole", "oasis", **TRAINING | {"batch_size": 8})


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_alike(a, b):
    ours, theirs = (load_file(checkpoint.find(run) / "model.safetensors") for run in (a, b))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    for row, other in zip(rows(a), rows(b), strict=True):
        assert list(row) == list(other)
        for name in row.keys() - {"images_per_s"}:
            tolerance = 1e-4 if name.endswith("grad_norm") else 1e-5
            assert row[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_are_one(together, method):
    assert_alike(together / f"{method}-2", together / f"{method}-1")


def test_ranks_agree_on_what_was_said_a_step_ago_and_wait_for_none(together):
    """Would one wait for the other at its first step both would wait for ever."""
    assert [torch.load(together / f"agreed-{rank}.pt") for rank in (0, 1)] == [[0, 0, 15, 0]] * 2
    assert [Consensus(ALONE)(number) for number in (0, 15)] == [0, 15]


def test_batch_normalization_is_over_the_slices_of_all_ranks(together):
    parts = [torch.load(together / f"norm-{rank}.pt") for rank in (0, 1)]
    whole, statistics = normalized(slice(None), ALONE)
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([part[0][name] for part in parts]), value, atol=1e-5, rtol=1e-5)
    for _, own in parts:
        torch.testing.assert_close(own, statistics, atol=1e-6, rtol=1e-6)


def test_a_run_of_one_rank_continues_with_two(together):
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


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu07,gpu09", "gpu07"),
        ("gpu[003-005,9]", "gpu003"),
        ("a[2,4]b-[01-02].x,big", "a2b-01.x"),
    ],
)
def test_ranks_meet_on_the_first_node_of_the_step(nodes, first):
    login = {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "SLURM_STEP_NODELIST": nodes}
    assert _first_node(login | {"SLURM_STEP_NUM_NODES": "2"}) == first
    assert _first_node(login | {"SLURM_STEP_NUM_NODES": "1"}) == "127.0.0.1"
    assert _first_node({}) == "127.0.0.1"


def test_a_batch_size_that_ranks_cannot_split_is_refused(tmp_path, small_case):
    store = both_splits(tmp_path / "store", small_case)
    with pytest.raises(
        UsageError, match=r"`batch_size` \(4\) must divide by `accumulate` \(1\) times the ranks \(3\)"
    ):
        fit(store, tmp_path / "run", world=World(0, 3, 0))
