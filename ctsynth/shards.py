"""I/N: the I-th of N parts of a list, for job arrays; and which of several ranks a process is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from ctsynth.errors import UsageError

T = TypeVar("T")

SLURM = "slurm"
"""Shard that stands for the task of a SLURM job array."""


def parse(shard: str, env: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(I, N) of ``I/N``, I from 1 to N, or of ``slurm`` within a job array.

    Raises:
        UsageError: It is of another form, or this is no task of a job array.
    """
    if shard == SLURM:
        return _of_array(env)
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", shard)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"`shard` {shard}: wanted I/N with I from 1 to N, such as 1/8, or slurm")
    return index, count


def _of_array(env: Mapping[str, str]) -> tuple[int, int]:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "COUNT", "STEP")]
    if names[0] not in env:
        raise UsageError(
            f"`shard` slurm: there is no {names[0]} here", hint="sbatch --array=1-8, or say `shard` 1/8"
        )
    task, first, last, count, step = (number(env, name, 1) for name in names)
    if (last - first) // step + 1 != count or (task - first) % step:
        raise UsageError(
            f"`shard` slurm: the array {first}-{last}:{step} has gaps ({count} tasks)", hint="sbatch --array=1-8"
        )
    return (task - first) // step + 1, count


def ranks(env: Mapping[str, str] = os.environ) -> tuple[int, int, int]:
    """(rank, number of ranks, rank on this machine), as torchrun or srun says; (0, 1, 0) where neither does.

    SLURM's variables count within a step only: in a batch script itself SLURM_PROCID is 0 and SLURM_NTASKS that of
    the job, and who trusts them waits for a rank 1 that never comes.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        return number(env, "RANK", 0), number(env, "WORLD_SIZE", 1), number(env, "LOCAL_RANK", 0)
    if "SLURM_STEP_ID" in env and (tasks := number(env, "SLURM_NTASKS", 1)) > 1:
        return number(env, "SLURM_PROCID", 0), tasks, number(env, "SLURM_LOCALID", 0)
    return 0, 1, 0


def number(env: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of a scheduler's from the environment.

    Raises:
        UsageError: It is something else.
    """
    text = env.get(name) or str(default)
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise UsageError(f"the environment has {name}={text!r}, wanted a whole number", hint=f"unset {name}")
    return int(text)


def take(items: Sequence[T], shard: str) -> list[T]:
    """Every N-th of the items, beginning with the I-th."""
    index, count = parse(shard)
    return list(items[index - 1 :: count])


def lock_name(command: str, shard: str) -> str:
    """The name of the lock file that keeps two processes off one shard."""
    index, count = parse(shard)
    return f".{command}-{index}-of-{count}.lock"
