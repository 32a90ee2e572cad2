"""What a method learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Real slices and their label maps.

    Shapes:
        image: (B, 1, H, W) float32 in [-1, 1], the window's range.
        labels: (B, H, W) int64 in [0, num_classes).
        totals: ``Learner.totals`` of the whole batch, of which these slices are a part: one rank's share, or one
            step's of accumulation. None where they are the whole.
        shared: by name what an earlier phase of a step leaves, graph and all, for a later one. None where it may
            not: kept for every part of a batch, it would take the memory that the parts are to save.
    """

    image: Tensor
    labels: Tensor
    totals: Tensor | None = None
    shared: dict[str, Tensor] | None = None

    def split(self, parts: int) -> list[Batch]:
        """So many equal parts of it, in order."""
        size = len(self.labels) // parts
        slices = zip(self.image.split(size), self.labels.split(size), strict=True)
        return [replace(self, image=image, labels=labels) for image, labels in slices]
