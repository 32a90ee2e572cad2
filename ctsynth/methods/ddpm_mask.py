"""Mask-guided DDPM: the mask in an encoder of its own (paper, Eq. 7 and Fig. 2b)."""

from __future__ import annotations

from ctsynth.diffusion.conditioners import MaskConditioner
from ctsynth.methods._diffusion import GuidedMethod


class MaskGuidedDDPM(GuidedMethod):
    """epsilon(x_t, mask, t), the mask read through features at every scale."""

    title = "Mask-guided DDPM"
    conditioner_type = MaskConditioner
