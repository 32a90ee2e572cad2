"""How much memory a forward pass keeps for the backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ctsynth.compat import storage_of


class SavedActivations:
    """Bytes that autograd keeps for backward passes, each storage once.

    Attributes:
        now: At this time.
        most: At one time, so far.

    Args:
        there: Tensors that are there anyway, such as the weights, and do not count.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        self.most = 0
        self.now = 0
        self._there = {storage_of(tensor) for tensor in there}
        self._users: Counter[int] = Counter()

    def counting(self) -> saved_tensors_hooks:
        """The context of a forward pass; what it saves counts until the backward pass releases it."""
        return saved_tensors_hooks(self._keep, lambda held: held.tensor if isinstance(held, _Held) else held)

    def _keep(self, tensor: Tensor) -> Tensor | _Held:
        return tensor if storage_of(tensor) in self._there else _Held(tensor, self._count)

    def _count(self, tensor: Tensor, users: int) -> None:
        before = self._users[storage_of(tensor)]
        self._users[storage_of(tensor)] += users
        change = bool(before + users) - bool(before)
        self.now += change * tensor.untyped_storage().nbytes()
        self.most = max(self.most, self.now)


class _Held:
    """A tensor that is counted for as long as this lives."""

    def __init__(self, tensor: Tensor, count: Callable[[Tensor, int], None]) -> None:
        self.tensor, self._count = tensor, count
        count(tensor, 1)

    def __del__(self) -> None:
        self._count(self.tensor, -1)
