"""What a method learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, device


@dataclass(frozen=True, slots=True)
class Batch:
    """Real slices and their label maps.

    Shapes:
        image: (B, 1, H, W) float32 in [-1, 1], the window's range.
        labels: (B, H, W) int64 in [0, num_classes).
    """

    image: Tensor
    labels: Tensor

    def to(self, where: device) -> Batch:
        """The same batch on a device."""
        return Batch(self.image.to(where, non_blocking=True), self.labels.to(where, non_blocking=True))
