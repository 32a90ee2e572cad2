"""What is used of torch that torch does not document: the names that another version may take away."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.nn.modules.batchnorm import _BatchNorm


def has_triton() -> bool:
    """Whether torch.compile finds a Triton that works on this GPU."""
    from torch.utils import _triton

    return _triton.has_triton()


def has_cpp_compiler() -> bool:
    """Whether torch.compile finds the C++ compiler that it needs for a CPU."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def allow_graphs(shapes: int) -> None:
    """Lets a compiled function have that many graphs, one for each shape of its inputs."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = shapes


def shapes_only() -> contextlib.AbstractContextManager[object]:
    """The context in which tensors have shapes and no data, and operations take no time."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode()


def is_batch_norm(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Whether a module is batch normalization, of any dimension, of one GPU or of several."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return isinstance(module, _BatchNorm)


def storage_of(tensor: Tensor) -> int:
    """Identifies a tensor's storage, also where it has no data, as ``data_ptr`` does not."""
    return tensor.untyped_storage()._cdata


def lerp_each_(ours: Sequence[Tensor], theirs: Sequence[Tensor], weight: float) -> None:
    """Moves each of our tensors toward its counterpart by that weight, in place and in few kernels."""
    import torch

    torch._foreach_lerp_(list(ours), list(theirs), weight)
