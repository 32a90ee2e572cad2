"""Conditional DDPM: the mask concatenated to the noisy slice (paper, Eq. 6)."""

from __future__ import annotations

from ctsynth.diffusion.conditioners import ConcatConditioner, Conditioner
from ctsynth.methods._diffusion import DiffusionMethod


class ConditionalDDPM(DiffusionMethod):
    """epsilon(x_t concatenated with the mask, t)."""

    title = "Conditional DDPM"

    def make_conditioner(self, num_classes: int) -> Conditioner:
        """The mask beside the noisy slice."""
        return ConcatConditioner(num_classes, self.options.mask_encoding, self.options.patch, self.label_maps)
