"""Threads on a machine whose cores others are using."""

from __future__ import annotations

import os


def load_over_cores() -> tuple[float, int] | None:
    """The load of the last minute and the number of cores, where more wants to run than can; else None."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return (load, cores) if load > cores else None


def yield_cores_if_busy() -> None:
    """Lets OpenMP's threads sleep while they wait for one another, unless the user says how they wait.

    They spin otherwise, which is up to a third faster on free cores. On shared ones each spins through the time in
    which the other could have run. To be called before torch is imported.
    """
    if load_over_cores() and not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["OMP_WAIT_POLICY"] = "passive"
