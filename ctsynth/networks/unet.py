"""The denoising U-Net of improved-diffusion, with room for a second encoder's features."""

from __future__ import annotations

from collections.abc import Sequence

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


class UNet(nn.Module):
    """improved-diffusion's U-Net at its defaults: 124.05 M parameters with a mask channel beside the noisy slice.

    Features of a second encoder join it twice (paper, Fig. 2b): those of a level are concatenated to the main
    encoder's before that level's downsampling, and to the first decoder block of that level.

    Shapes:
        x: (B, in_channels, H, W), sides multiples of ``2 ** (len(multipliers) - 1)``.
        timesteps: (B,).
        features: one tensor a level that is downsampled, finest first; number l is
            (B, feature_channels[l], H / 2**l, W / 2**l).
        returns: (B, out_channels, H, W).

    Args:
        in_channels: Channels of the noisy slice and of what is concatenated to it.
        out_channels: Twice the slice's, where the variance is learned.
        channels: Channels of the first level.
        multipliers: Channels of each level, as multiples of ``channels``, finest first.
        res_blocks: Residual blocks a level in the encoder; the decoder has one more.
        attention_levels: Levels with self-attention, counted from the finest, 0.
        heads: Attention heads.
        dropout: Rate in each residual block.
        feature_channels: Channels of a second encoder's features at each level; empty without one.
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
        dropout: float = 0.0,
        feature_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.channels, self.levels, self.res_blocks = channels, len(multipliers), res_blocks
        last = len(multipliers) - 1
        extra = [*feature_channels, *[0] * (last + 1 - len(feature_channels))]
        time_channels = 4 * channels
        self.time = nn.Sequential(
            nn.Linear(channels, time_channels), nn.SiLU(), nn.Linear(time_channels, time_channels)
        )

        def stage(level: int, into: int, out: int) -> Stage:
            return Stage(into, out, time_channels, dropout, heads if level in attention_levels else 0)

        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        width, skips = channels, [channels]
        for level, multiplier in enumerate(multipliers):
            for _ in range(res_blocks):
                self.encoder.append(stage(level, width, multiplier * channels))
                width = multiplier * channels
                skips.append(width)
            if level < last:
                self.down.append(Downsample(width + extra[level], width))
                skips.append(width)
        self.middle_in = Stage(width, width, time_channels, dropout, heads)
        self.middle_out = Stage(width, width, time_channels, dropout)
        self.decoder, self.up = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(last + 1)):
            for i in range(res_blocks + 1):
                joined = extra[level] if i == 0 else 0
                self.decoder.append(stage(level, width + skips.pop() + joined, multipliers[level] * channels))
                width = multipliers[level] * channels
            if level:
                self.up.append(Upsample(width))
        self.norm_out = group_norm(width)
        self.conv_out = zeroed(nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(self, x: Tensor, timesteps: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        """The network's output for noisy slices at their timesteps."""
        time = self.time(timestep_embedding(timesteps, self.channels))
        joined = dict(enumerate(features))
        h = self.conv_in(x)
        skips = [h]
        for level in range(self.levels):
            for stage in self.encoder[level * self.res_blocks : (level + 1) * self.res_blocks]:
                h = stage(h, time)
                skips.append(h)
            if level < len(self.down):
                h = self.down[level](torch.cat([h, joined[level]], dim=1) if level in joined else h)
                skips.append(h)
        h = self.middle_out(self.middle_in(h, time), time)
        for place in range(self.levels):
            level = self.levels - 1 - place
            first = place * (self.res_blocks + 1)
            for i, stage in enumerate(self.decoder[first : first + self.res_blocks + 1]):
                parts = [h, skips.pop(), *([joined[level]] if i == 0 and level in joined else [])]
                h = stage(torch.cat(parts, dim=1), time)
            if level:
                h = self.up[place](h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Stage(nn.Module):
    """A residual block, then self-attention where ``heads`` is not 0.

    Shapes:
        x: (B, in_channels, H, W).
        time: (B, time_channels).
        returns: (B, out_channels, H, W).
    """

    def __init__(
        self, in_channels: int, out_channels: int, time_channels: int, dropout: float, heads: int = 0
    ) -> None:
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, time_channels, dropout)
        self.attention = AttentionBlock(out_channels, heads) if heads else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The block, then the attention."""
        return self.attention(self.block(x, time))
