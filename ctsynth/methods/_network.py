"""The network that the diffusion models share: a U-Net that a conditioner tells the label map."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ctsynth.diffusion.conditioners import Conditioner, EdgeConditioner, MaskConditioner, MaskEncoding
from ctsynth.errors import UsageError
from ctsynth.networks.unet import UNet
from ctsynth.schema import LabelContext, Multipliers, Range, Share, Width, check

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkOptions:
    """The denoiser's network; the defaults are improved-diffusion's at 256 x 256, as in the paper."""

    channels: Width = 128
    """Channels of the U-Net's finest level."""

    multipliers: Multipliers = (1, 1, 2, 2, 4, 4)
    """Channels of each level, as multiples."""

    res_blocks: Annotated[int, Range(1, 64)] = 2
    """Residual blocks a level."""

    attention: tuple[int, ...] = (16, 8)
    """Sides of the feature maps that have self-attention."""

    heads: Annotated[int, Range(0, 8192)] = 4
    """Attention heads; 0 where ``head_channels`` says how many."""

    head_channels: Annotated[int, Range(0, 8192)] = 0
    """Channels of an attention head; 0 where ``heads`` says how many."""

    resblock_updown: bool = False
    """Change the resolution in residual blocks, as guided-diffusion does, and not with a convolution."""

    dropout: Share = 0.0
    """Rate in the residual blocks."""

    patch: Annotated[int, Range(1, 64)] = 1
    """Side of the pixel squares that are folded into channels; 2 halves the resolution that the U-Net works at."""

    mask_encoding: MaskEncoding = "onehot"
    """One channel a class, or the class id in one channel."""

    label_context: LabelContext = 0
    """Label maps of so many slices above and below that are read beside the slice's own."""

    label_dropout: Share = 0.0
    """Share of training slices whose label map is the null map, which ``--guidance`` needs; SDM's is 0.2."""

    def __post_init__(self) -> None:
        check(self)
        if not self.multipliers:
            raise UsageError("multipliers must be one or more numbers")
        if min(self.heads, self.head_channels) != 0 or max(self.heads, self.head_channels) < 1:
            raise UsageError(
                f"of heads ({self.heads}) and head_channels ({self.head_channels}) one must be 0, the other above"
            )
        if self.channels < 4 or self.channels % 4 or self.channels % (self.heads or 1):
            raise UsageError(f"channels must divide by 4 and by heads ({self.heads}), not be {self.channels}")
        deepest = self.channels * self.multipliers[-1]
        if deepest % (self.head_channels or 1):
            raise UsageError(
                f"head_channels ({self.head_channels}) must divide the channels of the deepest level ({deepest})"
            )
        if self.label_dropout and self.mask_encoding == "index":
            raise UsageError(
                "label_dropout goes with mask_encoding onehot only: in index, zeros are a class and no null map"
            )


def check_guidance(options: NetworkOptions, guidance: float, hint: str) -> None:
    """Refuses guidance of a model that was never trained without label maps.

    Raises:
        UsageError: It is asked for of such a model; ``hint`` says how to train another.
    """
    if guidance != 1 and not options.label_dropout:
        raise UsageError(
            f"`guidance` {guidance:g} needs a model trained with label dropout; this one was not", hint=hint
        )


def check_encoder(channels: int, multipliers: Sequence[int]) -> None:
    """Refuses what a second encoder cannot have.

    Raises:
        UsageError: Its channels do not divide by 4, or there is no level that the U-Net downsamples.
    """
    if len(multipliers) < 2:
        raise UsageError("multipliers must be two or more: the mask joins where the network downsamples")
    if channels < 4 or channels % 4:
        raise UsageError(f"encoder_channels must divide by 4, not be {channels}")


def make_encoder(
    kind: type[MaskConditioner | EdgeConditioner], options: NetworkOptions, channels: int, num_classes: int
) -> Conditioner:
    """A second encoder as deep and as wide in proportion as the U-Net's own, up to its last downsampling."""
    return kind(
        num_classes,
        channels,
        options.multipliers[:-1],
        options.res_blocks,
        options.mask_encoding,
        options.patch,
        2 * options.label_context + 1,
    )


def make_unet(
    options: NetworkOptions,
    conditioner: Conditioner,
    size: int,
    *,
    outputs: int,
    mixing: bool = False,
    numbers: int = 0,
) -> UNet:
    """The U-Net for slices of that side.

    Args:
        options: Its settings.
        conditioner: What tells it the label map.
        size: Side of a slice, pixels.
        outputs: Channels of what it makes of a slice.
        mixing: As ``UNet`` has it; ``numbers`` likewise.
        numbers: See ``mixing``.

    Raises:
        UsageError: The slices cannot be halved so often.
    """
    factor = options.patch * 2 ** (len(options.multipliers) - 1)
    if size % factor:
        raise UsageError(f"slices of {size} x {size} do not suit this network: the side must divide by {factor}")
    levels = _attention_levels(options, size)
    widths = [options.channels * multiplier for multiplier in options.multipliers]
    if odd := [widths[level] for level in levels if widths[level] % (options.head_channels or 1)]:
        raise UsageError(
            f"head_channels ({options.head_channels}) must divide the {odd[0]} channels with attention"
        )
    pixels = options.patch**2
    return UNet(
        pixels + conditioner.concat_channels,
        outputs * pixels,
        channels=options.channels,
        multipliers=options.multipliers,
        res_blocks=options.res_blocks,
        attention_levels=levels,
        heads=options.heads,
        head_channels=options.head_channels,
        dropout=options.dropout,
        resblock_updown=options.resblock_updown,
        feature_channels=conditioner.feature_channels,
        segmap_channels=conditioner.segmap_channels,
        mixing=mixing,
        numbers=numbers,
    )


def _attention_levels(options: NetworkOptions, size: int) -> list[int]:
    """The levels whose feature maps have a side of ``attention``; the log says which sides none has."""
    sides = [size // options.patch // 2**level for level in range(len(options.multipliers))]
    if missing := [side for side in options.attention if side not in sides]:
        log.warning(
            "attention: no feature map has a side of %s; at slices of %d x %d theirs are %s",
            " or ".join(map(str, missing)), size, size, ", ".join(map(str, sides)),
        )  # fmt: skip
    return [level for level, side in enumerate(sides) if side in options.attention]
