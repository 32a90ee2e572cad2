import os

import pytest
from small_runs import ctsynth, settings
from small_stores import both_splits

from ctsynth.cli import _threads


@pytest.fixture
def machine(monkeypatch):
    """Makes the machine have this load on two cores."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)

    def make(load):
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
        monkeypatch.setattr(os, "cpu_count", lambda: 2)

    yield make
    os.environ.pop("OMP_WAIT_POLICY", None)


@pytest.mark.parametrize(("load", "policy"), [(0.1, None), (2.0, None), (2.1, "passive"), (9.0, "passive")])
def test_threads_sleep_while_they_wait_where_others_compute(machine, load, policy):
    machine(load)
    _threads.yield_cores_if_busy()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_variables_that_the_user_sets_are_kept(machine, monkeypatch, name):
    machine(9.0)
    monkeypatch.setenv(name, "0")
    _threads.yield_cores_if_busy()
    assert os.environ.get("OMP_WAIT_POLICY") == ("0" if name == "OMP_WAIT_POLICY" else None)


@pytest.mark.parametrize(("load", "threads", "said"), [(0.5, 2, False), (8.5, 1, False), (8.5, 2, True)])
def test_train_says_that_the_machine_is_busy(machine, load, threads, said, tmp_path, small_case, monkeypatch):
    machine(load)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    both_splits(tmp_path / "out", small_case)
    done = ctsynth("train", *settings(iterations=1), "--data", tmp_path / "out", "--out", tmp_path / "run")
    assert ("a load of 8.5 on 2 cores" in done.stderr) is said
