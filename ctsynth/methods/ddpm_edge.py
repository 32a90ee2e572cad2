"""Edge-guided DDPM: the mask beside the noisy slice, its edges in an encoder of their own (paper, Eq. 8)."""

from __future__ import annotations

from ctsynth.diffusion.conditioners import EdgeConditioner
from ctsynth.methods._diffusion import GuidedMethod


class EdgeGuidedDDPM(GuidedMethod):
    """epsilon(x_t concatenated with the mask, edges, t)."""

    title = "Edge-guided DDPM"
    conditioner_type = EdgeConditioner
