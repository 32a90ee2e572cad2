"""What is mutated, by which tests, and which mutants are no mistakes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A module of ctsynth.

    Args:
        tests: The files that test it, below ``tests``.
        functions: Beginnings of the names of those that are mutated; all if empty.
    """

    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()


TARGETS = {
    "diffusion.edm": Target(("diffusion/test_noise_levels.py", "methods/test_edm.py")),
    "diffusion.process": Target(("diffusion/test_process.py", "diffusion/test_official.py")),
    "diffusion.samplers": Target(("diffusion/test_samplers.py", "diffusion/test_official.py")),
    "diffusion.schedule": Target(
        ("diffusion/test_schedule.py", "diffusion/test_samplers.py", "diffusion/test_official.py")
    ),
    "methods._diffusion": Target(
        ("methods/test_diffusion_methods.py",),
        (
            "DiffusionMethod.loss",
            "DiffusionMethod.generate",
            "DiffusionMethod.denoiser",
            "DiffusionMethod._output",
        ),
    ),
    "methods.edm": Target(
        ("methods/test_edm.py",),
        ("EDM.loss", "EDM.levels", "EDM.denoise", "EDM.generate", "_column"),
    ),
    "methods.edm_volume": Target(("methods/test_edm.py",)),
    "methods.pix2pix": Target(
        ("methods/test_pix2pix.py", "methods/test_gan_training.py"),
        ("Pix2Pix.loss", "Pix2Pix.generate", "Pix2Pix._"),
    ),
    "methods.spade": Target(
        ("methods/test_spade.py", "methods/test_gan_training.py"), ("SPADE.loss", "SPADE._", "_distance", "_mean")
    ),
    "methods.oasis": Target(
        ("methods/test_oasis.py", "methods/test_gan_training.py"),
        ("OASIS.totals", "OASIS.loss", "OASIS._", "class_weights", "labelmix_mask", "_cross_entropy"),
    ),
    "networks.mixing": Target(("methods/test_edm.py",)),
    "segmenters.unet2d": Target(
        ("segmenters/test_unet2d.py",), ("UNet2D.loss", "_class_weights", "overlaps", "_within", "soft_dice")
    ),
    "segmenters._augmentation": Target(("segmenters/test_augmentation.py", "segmenters/test_unet2d.py")),
    "data.window": Target(("data/test_window.py", "test_other_window.py")),
    "measures.along_z": Target(("measures/test_along_z.py",)),
    "measures.expected": Target(("measures/test_expected.py",)),
    "measures.neighbors": Target(("measures/test_neighbors.py",)),
    "measures.noise_power": Target(("measures/test_noise_power.py",)),
    "measures.organs": Target(("measures/test_organs.py",)),
    "measures.planes": Target(("measures/test_planes.py",)),
    "metrics.z_correlation": Target(("metrics/test_z_results.py", "metrics/test_z_scores.py")),
    "metrics.z_flicker": Target(("metrics/test_z_results.py",)),
    "metrics.z_gradient": Target(("metrics/test_z_results.py",)),
    "metrics.psnr": Target(("metrics/test_psnr_ssim.py",)),
    "metrics.ssim": Target(("metrics/test_psnr_ssim.py",)),
    "metrics.gradient": Target(("metrics/test_gradient_hu.py",)),
    "metrics.hu": Target(("metrics/test_gradient_hu.py", "metrics/test_organ_hu_variants.py")),
    "metrics.base": Target(("metrics/test_metric_base.py", "metrics/test_psnr_ssim.py")),
    "features.frechet": Target(("metrics/test_frechet.py",)),
    "segmentation.overlap": Target(("segmentation/test_overlap.py", "metrics/test_dice.py")),
}
"""By module, without ``ctsynth``."""

EQUIVALENT: dict[str, dict[str, str]] = {
    "diffusion.edm": {
        "dpm_solver_pp: held is None or is_held is None -> held is None and is_held is None": (
            "one comes with the other"
        ),
    },
    "diffusion.samplers": {"dpm_solver_pp: 0.0 -> 1.0": "the first step knows no step before it"},
    "features.frechet": {
        "constant: 0 -> 1": "the seed of the subsets is a choice",
        "constant: 4096 -> 4097": "sums are the same in parts of any size",
        "constant: 8 -> 9": "likewise",
        "frechet_distance: 2 -> 3 (2)": "S1 S2 and S2 S1 have the same eigenvalues",
        "frechet_distance: min(len(one), len(other)) > one.shape[1] -> "
        "min(len(one), len(other)) >= one.shape[1]": "both ways have the same distance, but for rounding",
        "_deviations: n > d -> n >= d": "both roots have d rows",
    },
    "methods.edm": {
        "EDM.loss: batch.image + _column(sigma) * rng.normal('noise', batch.image.shape[1:]) -> "
        "batch.image - _column(sigma) * rng.normal('noise', batch.image.shape[1:])": "noise is symmetric",
        "EDM.levels: self.options.level_mean + self.options.level_std * rng.normal('level', (1,))[:, 0] -> "
        "self.options.level_mean - self.options.level_std * rng.normal('level', (1,))[:, 0]": "likewise",
        "EDM.levels: 1 -> 2": "the first of two draws is a draw",
        "EDM.denoise: output.float() -> output": "the product with float32 is float32",
        "EDM.loss: rng.uniform('label dropout') >= rate if rate else None -> "
        "rng.uniform('label dropout') >= rate": "at rate 0 all maps are kept",
        "EDM.loss: rng.uniform('label dropout') >= rate -> "
        "rng.uniform('label dropout') > rate": "they are never equal",
    },
    "methods.edm_volume": {
        "EDMVolume.generate_volume: ones > 0 -> ones >= 0": "of ones",
        "EDMVolume.generate_volume: stack.spacing * ones[:, 0] -> stack.spacing / ones[:, 0]": "likewise",
        "EDMVolume.levels: rng.uniform('shared levels').view(shape)[:, :1] < self.options.shared_levels -> "
        "rng.uniform('shared levels').view(shape)[:, :1] <= self.options.shared_levels": "they are never equal",
    },
    "methods._diffusion": {
        "DiffusionMethod.loss: rng.uniform('label dropout') >= rate if rate else None -> "
        "rng.uniform('label dropout') >= rate": "at rate 0 all maps are kept",
        "DiffusionMethod.loss: rng.uniform('label dropout') >= rate -> "
        "rng.uniform('label dropout') > rate": "they are never equal",
        "DiffusionMethod.generate: run(denoise, self.process.schedule, noise, lambda timestep: "
        "rng.normal(timestep, shape)).clamp(-1, 1) -> run(denoise, self.process.schedule, noise, lambda timestep: "
        "rng.normal(timestep, shape))": "every sampler ends at an x_0 that is clipped, but for rounding",
        "DiffusionMethod.generate: 1 -> 2 (2)": "likewise",
        "DiffusionMethod.generate: 1 -> 2 (3)": "likewise",
        "DiffusionMethod.denoiser: torch.arange(copies * count, device=labels.device) < count "
        "if guided else None -> torch.arange(copies * count, device=labels.device) "
        "< count": "without guidance all maps are kept",
        "DiffusionMethod.denoiser: 2 -> 3 (2)": "two channels are two chunks, however many are asked for",
    },
    "diffusion.process": {
        "GaussianDiffusion.training_losses: 2 -> 3": "two channels are two chunks, however many are asked for",
        "GaussianDiffusion.p_mean_variance: 2 -> 3": "likewise",
        "_discretized_log_likelihood: x < -0.999 -> x <= -0.999": "no HU of the window's is there",
        "_discretized_log_likelihood: x > 0.999 -> x >= 0.999": "nor there",
    },
    "methods.pix2pix": {
        "Pix2Pix.generate: 1 -> 2": "slices are square",
        "Pix2Pix._fake: 1 -> 2": "likewise",
        "Pix2Pix._dropout: rng.normal(f'dropout {number}', shape) > 0 -> "
        "rng.normal(f'dropout {number}', shape) >= 0": "a normal number is never 0",
    },
    "methods.oasis": {
        "labelmix_mask: rng.shared('labelmix', (num_classes,)) > 0 -> "
        "rng.shared('labelmix', (num_classes,)) >= 0": "a normal number is never 0",
    },
    "segmenters.unet2d": {
        "overlaps: F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float() -> "
        "F.one_hot(labels, logits.shape[1]).movedim(-1, 1)": "its sums and products are float32 all the same",
    },
    "segmenters._augmentation": {
        "augment: 4 -> 5": "four are read",
        "cutmix: rows.abs() < half[:, None] -> rows.abs() <= half[:, None]": "they are never equal",
        "cutmix: columns.abs() < half[:, None] -> columns.abs() <= half[:, None]": "likewise",
    },
    "measures.expected": {
        "Regression.solve: 1 -> 2 (2)": "reshape takes any negative number for what is left",
        "Regression._features: 1 -> 2": "likewise",
    },
    "measures.noise_power": {
        "eroded: 1 -> 2": "a layer of background more",
        "regions: ROI * ROI -> ROI": "a shortcut: slices with fewer pixels have no region",
        "regions: ROI * ROI -> ROI / ROI": "likewise",
        "regions: 0 -> 1": "a row of background more has no region",
        "regions: 0 -> 1 (2)": "nor has a column",
        "_flattened: 1 -> 2": "surfaces of second order are the same in coordinates that are scaled and shifted",
        "_flattened: 1 -> 2 (2)": "likewise",
        "_flattened: 1 -> 2 (3)": "reshape takes any negative number for what is left",
        "_flattened: 1 -> 2 (4)": "likewise",
        "_flattened: 1 -> 2 (5)": "likewise",
    },
    "measures.neighbors": {"constant: 1024 -> 1025": "blocks of any size have the same distances"},
    "metrics.gradient": {"GradientRatio.result: 1 -> 2": "reshape takes any negative number for what is left"},
    "metrics.z_correlation": {"_typical: 1 -> 2 (2)": "reshape takes any negative number for what is left"},
    "metrics.base": {
        "constant: 0 -> 1": "the bootstrap's seed is a choice, which scores.json states",
        "constant: 2000 -> 2001": "as is the number of its resamples",
        "ratio: 0 -> 1 (2)": "sums and counts have one shape",
    },
    "metrics.hu": {
        "_organ: 0 -> 1": "an organ is absent from the real and the synthetic volume alike",
        "OrganHU.describe: 1 -> 2": "a bin more, which is empty",
        "OrganHU._distances: 0 -> 1 (2)": "no organ is picked from it",
        "OrganHU._distances: 1 -> 2 (2)": "NaN twice, of no organ",
        "_deviations: 0 -> 1": "a deviation is that about any center",
        "_deviations: 0 -> 1 (2)": "likewise",
        "_deviations: 1 -> 2": "one subject has no deviation",
        "_deviations: np.maximum(has.sum(axis=0), 1) -> has.sum(axis=0)": "some subject has each organ",
        "_over: np.nan_to_num(below) > _LEAST -> np.nan_to_num(below) >= _LEAST": "no deviation is just that",
        "OrganHU._spreads: np.nan_to_num(below) > _LEAST -> np.nan_to_num(below) >= _LEAST": "likewise",
    },
    "segmentation.overlap": {"constant: 2.0 -> 3.0": "nsd keeps its default, which is tested"},
}
"""By module the changes after which nothing differs that anyone relies on, and why."""
