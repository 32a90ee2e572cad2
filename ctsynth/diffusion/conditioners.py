"""How a denoiser reads the label map: the one thing in which the paper's diffusion models differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ctsynth.networks.conditioning import MaskEncoder, edges, one_hot, scaled_index, to_patches

MaskEncoding = Literal["onehot", "index"]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A label map as a denoiser reads it; made once a slice, not once a step, because none of it sees t.

    Shapes:
        concat: (B, K, H, W), channels beside the noisy slice.
        features: of an encoder of its own, one a level that is downsampled, finest first.
        segmap: (B, C, H, W), for SPADE.
    """

    concat: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    segmap: Tensor | None = None


class Conditioner(nn.Module, ABC):
    """Turns labels (B, H, W) int64, or (B, S, H, W) with those of neighboring slices, into a ``Conditioning``.

    Classifier-free guidance (Ho & Salimans 2022) needs what a model says without a label map. Then it reads the
    null map: no channel of the one-hot encoding is 1, not even the background's, and there are no edges.

    Attributes:
        concat_channels: Channels of ``Conditioning.concat``, 0 without.
        feature_channels: Channels of each of ``Conditioning.features``.
        segmap_channels: Channels of ``Conditioning.segmap``, 0 without.
    """

    concat_channels: int = 0
    feature_channels: tuple[int, ...] = ()
    segmap_channels: int = 0

    @abstractmethod
    def forward(self, labels: Tensor, kept: Tensor | None = None) -> Conditioning:
        """The conditioning of a batch of label maps.

        Args:
            labels: (B, H, W) int64, or (B, S, H, W).
            kept: (B,) bool, False where the null map stands in for the label map; None keeps all.
        """


class _Encoded(nn.Module):
    """A label map as channels, folded into patches: one-hot, or the id in one channel."""

    def __init__(self, num_classes: int, encoding: MaskEncoding, patch: int, maps: int) -> None:
        super().__init__()
        self.num_classes, self.encoding, self.patch = num_classes, encoding, patch
        self.channels = (num_classes if encoding == "onehot" else 1) * maps * patch**2

    def forward(self, labels: Tensor, kept: Tensor | None) -> Tensor:
        encode = one_hot if self.encoding == "onehot" else scaled_index
        return to_patches(_kept(encode(labels, self.num_classes), kept), self.patch)


def _kept(channels: Tensor, kept: Tensor | None) -> Tensor:
    return channels if kept is None else channels * kept[:, None, None, None]


class ConcatConditioner(Conditioner):
    """Conditional DDPM: the mask beside the noisy slice (paper, Eq. 6)."""

    def __init__(self, num_classes: int, encoding: MaskEncoding = "onehot", patch: int = 1, maps: int = 1) -> None:
        super().__init__()
        self.encoded = _Encoded(num_classes, encoding, patch, maps)
        self.concat_channels = self.encoded.channels

    def forward(self, labels: Tensor, kept: Tensor | None = None) -> Conditioning:
        """The encoded mask, to concatenate."""
        return Conditioning(concat=self.encoded(labels, kept))


class _GuidedConditioner(Conditioner):
    """An encoder of its own, for the mask or for its edges; the edges leave the mask to be concatenated."""

    reads_edges: ClassVar[bool]

    def __init__(
        self,
        num_classes: int,
        channels: int,
        multipliers: Sequence[int],
        res_blocks: int,
        encoding: MaskEncoding = "onehot",
        patch: int = 1,
        maps: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.encoded = _Encoded(num_classes, encoding, patch, maps)
        read = maps * patch**2 if self.reads_edges else self.encoded.channels
        self.encoder = MaskEncoder(read, channels, multipliers, res_blocks)
        self.concat_channels = self.encoded.channels if self.reads_edges else 0
        self.feature_channels = self.encoder.out_channels


class MaskConditioner(_GuidedConditioner):
    """Mask-guided DDPM: the mask in an encoder of its own (paper, Eq. 7 and Fig. 2b)."""

    reads_edges = False

    def forward(self, labels: Tensor, kept: Tensor | None = None) -> Conditioning:
        """The mask's features at every level that is downsampled."""
        return Conditioning(features=self.encoder(self.encoded(labels, kept)))


class EdgeConditioner(_GuidedConditioner):
    """Edge-guided DDPM: the mask beside the noisy slice, its edges in an encoder of their own (paper, Eq. 8)."""

    reads_edges = True

    def forward(self, labels: Tensor, kept: Tensor | None = None) -> Conditioning:
        """The encoded mask, to concatenate, and the features of its edge map."""
        features = self.encoder(to_patches(_kept(edges(labels), kept), self.patch))
        return Conditioning(concat=self.encoded(labels, kept), features=features)


class SegmapConditioner(Conditioner):
    """SDM: the mask itself, for SPADE in the decoder (Wang et al. 2022); without its edge channel."""

    def __init__(self, num_classes: int, encoding: MaskEncoding = "onehot", patch: int = 1, maps: int = 1) -> None:
        super().__init__()
        self.encoded = _Encoded(num_classes, encoding, patch, maps)
        self.segmap_channels = self.encoded.channels

    def forward(self, labels: Tensor, kept: Tensor | None = None) -> Conditioning:
        """The encoded mask, as the map that SPADE reads."""
        return Conditioning(segmap=self.encoded(labels, kept))
