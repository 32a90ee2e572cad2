"""Slices and label maps moved and changed at random, so that a network does not learn the patients by heart."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor

from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch

AIR = -1.0


def augment(batch: Batch, rng: BatchRNG, strength: float) -> tuple[Tensor, Tensor]:
    """Rotates, scales and shifts each slice with its label map, and changes the slice's gray values.

    Never mirrors: left and right are classes of their own. Of each quantity one standard deviation is 7.5 degrees,
    8 % in size, 4 % of the side, gamma 15 %, contrast 10 %, brightness 5 % and noise up to 5 % of the window; none
    is beyond two.

    Args:
        batch: The slices and label maps.
        rng: Each slice draws its own.
        strength: What the standard deviations are multiplied by; at 0 nothing changes.

    Returns:
        image: (B, 1, H, W) in [-1, 1].
        labels: (B, H, W) int64.
    """
    if not strength:
        return batch.image, batch.labels
    drawn = strength * rng.normal("augmentation", (8,)).clamp(-2, 2)
    grid = F.affine_grid(_affine(drawn[:, :4]), list(batch.image.shape), align_corners=False)
    image = F.grid_sample(batch.image - AIR, grid, mode="bilinear", align_corners=False) + AIR
    labels = F.grid_sample(batch.labels[:, None].float(), grid, mode="nearest", align_corners=False)
    return _gray_values(image, drawn[:, 4:], rng), labels[:, 0].long()


def _affine(drawn: Tensor) -> Tensor:
    """(B, 4) angle, size and shifts as what ``affine_grid`` takes: (B, 2, 3), from the result to the source."""
    angle, scale = 0.13 * drawn[:, 0], torch.exp(0.08 * drawn[:, 1])
    cosine, sine, shift = scale * angle.cos(), scale * angle.sin(), 0.08 * drawn[:, 2:]
    rows = [torch.stack([cosine, -sine, shift[:, 0]], dim=1), torch.stack([sine, cosine, shift[:, 1]], dim=1)]
    return torch.stack(rows, dim=1)


def _gray_values(image: Tensor, drawn: Tensor, rng: BatchRNG) -> Tensor:
    """Gamma, contrast, brightness and noise from (B, 4)."""
    gamma, contrast, brightness, noise = drawn[:, :, None, None, None].unbind(1)
    unit = ((image + 1) / 2).clamp(0, 1) ** torch.exp(0.15 * gamma)
    mean = unit.mean((1, 2, 3), keepdim=True)
    unit = (unit - mean) * torch.exp(0.1 * contrast) + mean + 0.05 * brightness
    unit = unit + 0.025 * noise.abs() * rng.normal("noise", image.shape[1:])
    return (2 * unit - 1).clamp(-1, 1)


def cutmix(image: Tensor, labels: Tensor, rng: BatchRNG, rate: float) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al. 2019) of slices with their label maps: a box of one slice takes the place of another's.

    A slice gets, with probability ``rate``, the pixels and labels of a box of the batch's next slice; the last one
    gets those of the first. The box's share of the slice is uniform in [0, 1), and so is its center; beyond
    the slice it is cut off. Labels are pasted, not weighted, so the loss stays as it is.

    Args:
        image: (B, 1, H, W).
        labels: (B, H, W).
        rng: Each slice draws its own.
        rate: Probability; 0 changes nothing.

    Returns:
        Image and labels.
    """
    if not rate:
        return image, labels
    height, width = labels.shape[1:]
    is_mixed = rng.uniform("cutmix") < rate
    half = rng.uniform("cutmix area").sqrt() / 2
    rows = (torch.arange(height, device=image.device) + 0.5) / height - rng.uniform("cutmix row")[:, None]
    columns = (torch.arange(width, device=image.device) + 0.5) / width - rng.uniform("cutmix column")[:, None]
    box = (rows.abs() < half[:, None])[:, :, None] & (columns.abs() < half[:, None])[:, None, :]
    box &= is_mixed[:, None, None]
    mixed = torch.where(box[:, None], image.roll(-1, 0), image)
    return mixed, torch.where(box, labels.roll(-1, 0), labels)
