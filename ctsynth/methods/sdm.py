"""SDM: the mask conditions the decoder's norms, the encoder sees the noisy slice (Wang et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ctsynth.diffusion.conditioners import Conditioner, SegmapConditioner
from ctsynth.methods._diffusion import PRESETS, DiffusionMethod, DiffusionOptions
from ctsynth.methods.base import Preset


@dataclass(frozen=True, kw_only=True, slots=True)
class SDMOptions(DiffusionOptions):
    """SDM's U-Net, which is guided-diffusion's, at the width of the paper's other diffusion models."""

    attention: tuple[int, ...] = (32, 16, 8)
    """Sides of the feature maps that have self-attention."""

    heads: int = 0
    """Attention heads; 0 where ``head_channels`` says how many."""

    head_channels: int = 64
    """Channels of an attention head; 0 where ``heads`` says how many."""

    resblock_updown: bool = True
    """Change the resolution in residual blocks, as guided-diffusion does, and not with a convolution."""


_NARROW = {"small": {"channels": 48, "head_channels": 48}, "tiny": {"channels": 16, "head_channels": 16}}
"""At the DDPMs' widths SPADE's convolutions would make a step two to three times as long as theirs."""


class SDM(DiffusionMethod):
    """epsilon(x_t, t, mask), the mask read by SPADE in every norm of the middle and the decoder."""

    title = "SDM"
    Options = SDMOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(),
        **{n: Preset({**PRESETS[n].options, **own}, PRESETS[n].training) for n, own in _NARROW.items()},
        "sdm-official": Preset({"channels": 256}),
        "guided": Preset({"label_dropout": 0.2}),
    }

    def make_conditioner(self, num_classes: int) -> Conditioner:
        """The mask for SPADE."""
        return SegmapConditioner(num_classes, self.options.mask_encoding, self.options.patch, self.label_maps)
