"""The denoising U-Net of improved-diffusion, with room for a second encoder's features and for SDM's label map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.networks.blocks import (
    AttentionBlock,
    Downsample,
    ResBlock,
    Upsample,
    group_norm,
    timestep_embedding,
    zeroed,
)
from ctsynth.networks.mixing import Mixing


class UNet(nn.Module):
    """improved-diffusion's U-Net at its defaults: 124.05 M parameters with a mask channel beside the noisy slice.

    Features of a second encoder join it twice (paper, Fig. 2b): those of a level are concatenated to the main
    encoder's before that level's downsampling, and to the first decoder block of that level.

    A label map is read by SPADE in both norms of each residual block of the middle and the decoder, and nowhere
    else (SDM, Wang et al. 2022).

    Shapes:
        x: (B, in_channels, H, W), sides multiples of ``2 ** (len(multipliers) - 1)``.
        timesteps: (B,).
        features: one tensor a level that is downsampled, finest first; number l is
            (B, feature_channels[l], H / 2**l, W / 2**l).
        segmap: (B, segmap_channels, H, W), or None where ``segmap_channels`` is 0.
        valid: (N, K) bool with N K = B, where slices are mixed: N windows of K slices, False past a volume's ends.
        numbers: (B, ``numbers``), or None.
        returns: (B, out_channels, H, W).

    Args:
        in_channels: Channels of the noisy slice and of what is concatenated to it.
        out_channels: Twice the slice's, where the variance is learned.
        channels: Channels of the first level.
        multipliers: Channels of each level, as multiples of ``channels``, finest first.
        res_blocks: Residual blocks a level in the encoder; the decoder has one more.
        attention_levels: Levels with self-attention, counted from the finest, 0; the middle always has it.
        heads: Attention heads.
        head_channels: Channels of a head, instead of their number; 0 for ``heads``.
        dropout: Rate in each residual block.
        resblock_updown: Change the resolution in residual blocks, as guided-diffusion and SDM, and not with a
            convolution of stride 2 or after repeating pixels.
        feature_channels: Channels of a second encoder's features at each level; empty without one.
        segmap_channels: Channels of the label map; 0 without.
        mixing: Let each slice read its neighbors after each residual block of a level or of the middle.
        numbers: How many numbers beside the timestep the time embedding takes up of a slice; at the start of a
            training they change nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4, 4),
        res_blocks: int = 2,
        attention_levels: Sequence[int] = (4, 5),
        heads: int = 4,
        head_channels: int = 0,
        dropout: float = 0.0,
        resblock_updown: bool = False,
        feature_channels: Sequence[int] = (),
        segmap_channels: int = 0,
        mixing: bool = False,
        numbers: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.levels, self.res_blocks = channels, len(multipliers), res_blocks
        widths = [channels * multiplier for multiplier in multipliers]
        extra = [*feature_channels, *[0] * (len(widths) - len(feature_channels))]
        embedding = 4 * channels
        block = partial(ResBlock, time_channels=embedding, dropout=dropout)
        conditioned_block = partial(block, segmap_channels=segmap_channels)
        down: Callable[..., nn.Module] = partial(block, resample="down") if resblock_updown else Downsample

        def stage(width: int, resblock: ResBlock, *, attends: bool) -> Stage:
            attention = (
                AttentionBlock(width, width // head_channels if head_channels else heads) if attends else None
            )
            return Stage(resblock, attention, Mixing(width) if mixing else None)

        self.time = nn.Sequential(nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.numbers = zeroed(nn.Linear(numbers, embedding)) if numbers else None
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        width, skips = channels, [channels]
        for level, out in enumerate(widths):
            for _ in range(res_blocks):
                self.encoder.append(stage(out, block(width, out), attends=level in attention_levels))
                width = out
                skips.append(width)
            if level + 1 < len(widths):
                self.down.append(down(width + extra[level], width))
                skips.append(width)
        self.middle_in = stage(width, conditioned_block(width, width), attends=True)
        self.middle_out = stage(width, conditioned_block(width, width), attends=False)
        self.decoder, self.up = nn.ModuleList(), nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for i in range(res_blocks + 1):
                into = width + skips.pop() + (extra[level] if i == 0 else 0)
                self.decoder.append(stage(out, conditioned_block(into, out), attends=level in attention_levels))
                width = out
            if level:
                self.up.append(
                    conditioned_block(width, width, resample="up") if resblock_updown else Upsample(width)
                )
        self.norm_out = group_norm(width)
        self.conv_out = zeroed(nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        features: Sequence[Tensor] = (),
        segmap: Tensor | None = None,
        valid: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:
        """The network's output for noisy slices at their timesteps."""
        time = self.time(timestep_embedding(timesteps, self.channels))
        if self.numbers is not None and numbers is not None:
            time = time + self.numbers(numbers)
        joined = dict(enumerate(features))
        h = self.conv_in(x)
        skips = [h]
        for level in range(self.levels):
            for stage in self.encoder[level * self.res_blocks : (level + 1) * self.res_blocks]:
                h = stage(h, time, valid=valid)
                skips.append(h)
            if level < len(self.down):
                h = self.down[level](torch.cat([h, joined[level]], dim=1) if level in joined else h, time)
                skips.append(h)
        h = self.middle_out(self.middle_in(h, time, segmap, valid), time, segmap, valid)
        for place in range(self.levels):
            level = self.levels - 1 - place
            first = place * (self.res_blocks + 1)
            for i, stage in enumerate(self.decoder[first : first + self.res_blocks + 1]):
                parts = [h, skips.pop(), *([joined[level]] if i == 0 and level in joined else [])]
                h = stage(torch.cat(parts, dim=1), time, segmap, valid)
            if level:
                h = self.up[place](h, time, segmap)
        return self.conv_out(F.silu(self.norm_out(h)))


class Stage(nn.Module):
    """A residual block, then what the neighbors say and self-attention, where there are any.

    It takes and returns what the block does, and ``valid`` as ``Mixing`` does.
    """

    def __init__(
        self, block: ResBlock, attention: AttentionBlock | None = None, mixing: Mixing | None = None
    ) -> None:
        super().__init__()
        self.block = block
        self.mixing = mixing
        self.attention = attention or nn.Identity()

    def forward(
        self, x: Tensor, time: Tensor, segmap: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """The block, the mixing, the attention."""
        h = self.block(x, time, segmap)
        if self.mixing is not None:
            h = self.mixing(h, valid)
        return self.attention(h)
