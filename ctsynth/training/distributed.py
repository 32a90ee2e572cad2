"""Many ranks, one run: torch's own process group, DistributedDataParallel and SyncBatchNorm.

The global batch stays what the settings say. Rank r works on its share of every batch and draws what the global
position of each slice says, so that the ranks together do what one alone would.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ctsynth.errors import RunError
from ctsynth.randomness import BatchRNG
from ctsynth.shards import number, ranks
from ctsynth.trainable import Batch, Phase, TrainableModel

T = TypeVar("T")

RANK_TIMEOUT = timedelta(minutes=60)
"""How long ranks wait for one another: the first draws sample sheets and writes checkpoints meanwhile."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes that train together.

    Args:
        rank: This rank, from 0.
        size: How many there are.
        local_rank: This rank on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def agree(self, number: int) -> int:
        """The largest number of all ranks, the same on each."""
        if self.size == 1:
            return number
        sent = torch.tensor(number)
        dist.all_reduce(sent, dist.ReduceOp.MAX, group=_hosts())
        return int(sent)

    def wait(self) -> None:
        """Returns when every rank is here."""
        if self.size > 1:
            dist.barrier(group=_hosts())

    def total(self, values: Tensor) -> Tensor:
        """The sum over the ranks."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Every rank's, stacked; all get the same."""
        if self.size == 1:
            return values[None]
        every = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(every, values)
        return torch.stack(every)

    def of_first(self, thing: T) -> T:
        """What the first rank has; the others' own is dropped."""
        if self.size == 1:
            return thing
        box: list[Any] = [thing]
        dist.broadcast_object_list(box, group=_hosts())
        return cast(T, box[0])

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean of each value over the ranks, which name them in one order."""
        if self.size == 1 or not values:
            return dict(values)
        stacked = self.total(torch.stack(list(values.values()))) / self.size
        return dict(zip(values, stacked, strict=True))


ALONE = World()


class Consensus:
    """Agrees on a number at every step without waiting: on the numbers of the step before.

    Every rank calls it equally often. The first call gives 0; a single rank gets its own number at once.

    Args:
        world: The ranks.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: tuple[dist.Work, Tensor] | None = None

    def __call__(self, number: int) -> int:
        """The largest number of all ranks at the call before, the same on each."""
        if self._world.size == 1:
            return number
        before, sent = self._sent, torch.tensor(number)
        work = dist.all_reduce(sent, dist.ReduceOp.MAX, group=_hosts(), async_op=True)
        assert work is not None
        self._sent = work, sent
        if before is None:
            return 0
        before[0].wait()
        return int(before[1])


def find_world(env: Mapping[str, str] = os.environ) -> World:
    """What torchrun, or srun, says of this process."""
    return World(*ranks(env))


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[None]:
    """Joins the other ranks, and leaves them at the end.

    Under srun the first node of the step is the meeting place, at a port that follows from the job's number.

    Raises:
        RunError: Another rank has died.
    """
    if world.size == 1:
        yield
        return
    env = {"MASTER_ADDR": _first_node(os.environ), "MASTER_PORT": _port(os.environ)}
    for name, value in env.items():
        os.environ.setdefault(name, value)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=RANK_TIMEOUT)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistBackendError) or "peer" in str(error):
            raise RunError(f"rank {world.rank} has lost the others: see what the first of them says") from error
        raise
    finally:
        _groups.clear()
        dist.destroy_process_group()


def _first_node(env: Mapping[str, str]) -> str:
    """Where rank 0 runs, of a list such as ``gpu[03-05,9],big``; SLURM_LAUNCH_NODE_IPADDR may be a login node."""
    if env.get("SLURM_STEP_NUM_NODES", "1") == "1":
        return "127.0.0.1"
    first = re.match(r"(\[[^]]*\]|[^,[])+", env["SLURM_STEP_NODELIST"])
    assert first is not None
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", first[0])


def _port(env: Mapping[str, str]) -> str:
    return str(20_000 + number(env, "SLURM_JOB_ID", 0) % 10_000 + number(env, "SLURM_STEP_ID", 0) % 100)


_groups: dict[str, dist.ProcessGroup] = {}


def _hosts() -> dist.ProcessGroup | None:
    """A group that talks through the hosts: asking it does not make a GPU wait."""
    if dist.get_backend() == "gloo":
        return None
    if "hosts" not in _groups:
        _groups["hosts"] = dist.new_group(backend="gloo", timeout=RANK_TIMEOUT)
    return _groups["hosts"]


class _Loss(nn.Module):
    """A phase's loss as the forward pass of a module, as DistributedDataParallel wants it."""

    def __init__(self, method: TrainableModel, phase: str) -> None:
        super().__init__()
        self.method, self.phase = method, phase

    def forward(self, batch: Batch, rng: BatchRNG) -> dict[str, Tensor]:
        return self.method.loss(self.phase, batch, rng)


def freeze_others(method: TrainableModel, phase: Phase) -> None:
    """Freezes all parameters but the phase's."""
    method.requires_grad_(False)
    for parameter in phase.parameters:
        parameter.requires_grad_(True)


_NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
_KEEP_BUFFERS: dict[str, Any] = {  # the option's name, before and after torch renamed it
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}


def losses(method: TrainableModel, phases: list[Phase], world: World) -> dict[str, nn.Module]:
    """The loss of each phase as a module of (batch, rng); over several ranks its backward averages the gradients.

    Each is wrapped while the other phases are frozen, so that it owns what its optimizer owns. Buffers are not
    sent around: normalization is synchronized and power iterations are the same on every rank.
    """
    made: dict[str, nn.Module] = {}
    for phase in phases:
        loss: nn.Module = _Loss(method, phase.name)
        if world.size > 1:
            freeze_others(method, phase)
            loss = DistributedDataParallel(loss, gradient_as_bucket_view=True, **_KEEP_BUFFERS)
        made[phase.name] = loss
    return made


def synchronize_norms(method: TrainableModel, world: World, device: torch.device) -> None:
    """Makes batch normalization take its statistics over all ranks; parameters and buffers stay the same."""
    if world.size == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(method)
        return
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):  # torch's own works on GPUs only
            module.__class__ = _HostSyncBatchNorm


class _HostSyncBatchNorm(nn.BatchNorm2d):
    """Batch normalization over all ranks, each with as many slices, through gloo."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean = _Mean.apply(x.mean((0, 2, 3)))
        centered = x - mean[:, None, None]
        variance = _Mean.apply(centered.square().mean((0, 2, 3)))
        count = x.numel() // x.shape[1] * dist.get_world_size()
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum or 0.0)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.0)
        normalized = centered * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.weight is None:
            return normalized
        return torch.addcmul(self.bias[:, None, None], normalized, self.weight[:, None, None])


class _Mean(torch.autograd.Function):
    """The mean over ranks; its gradient is the mean over ranks of the gradients."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        x = x.contiguous().clone()
        dist.all_reduce(x)
        return x / dist.get_world_size()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient / dist.get_world_size()


@contextmanager
def unsynchronized(loss: nn.Module, *, until_later: bool) -> Iterator[None]:
    """Within it gradients stay on their rank, for all but the last part of an accumulated batch."""
    if until_later and isinstance(loss, DistributedDataParallel):
        with loss.no_sync():
            yield
    else:
        yield
