"""Laws of denoising at noise levels, with denoisers that are known exactly."""

import itertools
import math

import numpy as np
import pytest
import torch

from ctsynth.diffusion.edm import (
    FIRST,
    HIGHEST,
    LAST,
    LOWEST,
    Known,
    Scales,
    chunks,
    dpm_solver_pp,
    draw_volume,
    levels,
    timesteps,
)
from ctsynth.networks.blocks import timestep_embedding

SIGMA = torch.tensor([0.02, 0.5, 7.0], dtype=torch.float64)


def test_inputs_and_targets_of_the_network_have_unit_variance():  # Karras et al. 2022, Appendix B.6
    scales = Scales()
    assert torch.allclose(scales.input(SIGMA) ** 2 * (0.5**2 + SIGMA**2), torch.ones(3).double())
    skip, out = scales.skip(SIGMA), scales.output(SIGMA)
    target = ((1 - skip) ** 2 * 0.5**2 + skip**2 * SIGMA**2) / out**2  # of (y - c_skip (y + sigma n)) / c_out
    assert torch.allclose(target, torch.ones(3).double())


def test_the_loss_weighs_the_networks_error_alike_at_all_levels():
    assert torch.allclose(Scales().weight(SIGMA) * Scales().output(SIGMA) ** 2, torch.ones(3).double())


def test_a_network_that_outputs_zero_gives_the_best_linear_denoiser():
    """Of a Gaussian with the data's deviation: E[y | x] = s^2 / (s^2 + sigma^2) x."""
    assert torch.allclose(Scales(0.5).skip(SIGMA), 0.25 / (0.25 + SIGMA**2))


def test_levels_fill_the_range_of_the_timestep_embedding():
    assert timesteps(torch.tensor([LOWEST, HIGHEST])).tolist() == pytest.approx([0, 1000], abs=1e-3)
    embedded = timestep_embedding(timesteps(SIGMA), 32)
    assert torch.cdist(embedded, embedded).fill_diagonal_(9).min() > 0.5


def test_levels_are_even_in_their_logarithm():
    sigmas = levels(10)
    assert sigmas[[0, -1]] == pytest.approx([FIRST, LAST])
    assert np.diff(np.log(sigmas)) == pytest.approx(math.log(LAST / FIRST) / 9)
    assert levels(1) == pytest.approx([FIRST])


def test_a_single_gaussian_comes_out_as_it_is():
    """Mean 0.3, deviation 0.2: ten evaluations are within 2 % of the deviation."""
    generator = torch.Generator().manual_seed(0)

    def denoise(x, sigma):
        share = 0.2**2 / (0.2**2 + sigma[:, None] ** 2)
        return 0.3 + share * (x - 0.3)

    drawn = dpm_solver_pp(denoise, torch.randn(40_000, 1, generator=generator, dtype=torch.float64), levels(10))
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.005)
    assert drawn.std().item() == pytest.approx(0.2, rel=0.02)


LENGTH, COLUMNS, DEVIATION = 120, 4000, 0.5


def correlation(distance):
    """Of a texture along z: half of it is gone after two slices, the rest lasts."""
    return 0.6 * np.exp(-np.abs(distance) / 2) + 0.4 * np.exp(-((distance / 8) ** 2))


COVARIANCE = torch.from_numpy(DEVIATION**2 * correlation(np.subtract.outer(np.arange(120), np.arange(120))))


def exact(part):
    """E[x | x + sigma n] of the column's slices in a range, each at its own sigma, given no others."""
    own = COVARIANCE[part.start : part.stop, part.start : part.stop]

    def denoise(x, sigma):
        return (own @ torch.linalg.solve(own + torch.diag(sigma**2), x.flatten(1))).view(x.shape)

    return denoise


def drawn(parts, seed=0, known=None, denoiser=exact):
    generator = torch.Generator().manual_seed(seed)
    noise, again = (torch.randn(LENGTH, COLUMNS, generator=generator, dtype=torch.float64) for _ in range(2))
    return draw_volume(denoiser, noise, again, levels(10), parts, known)


def is_the_column(slices):
    """Deviation within 3 %, correlation at 1 to 5 slices within 0.03, wherever in the column."""
    standard = slices / slices.std(dim=1, keepdim=True)
    measured = [(standard[k:] * standard[:-k]).mean(1) for k in range(1, 6)]
    off = [(row - correlation(k)).abs() for k, row in enumerate(measured, 1)]
    noise = 4 / math.sqrt(COLUMNS)  # of one pair of slices
    return (
        abs(slices.std().item() / DEVIATION - 1) < 0.03
        and all(row.mean() < 0.03 for row in off)
        and all(row.max() < 0.03 + noise for row in off)
    )


def test_a_column_is_drawn_with_its_correlation_whole():
    assert is_the_column(drawn(chunks(LENGTH, 128, 4)))


def test_a_column_is_drawn_with_its_correlation_in_chunks():
    assert is_the_column(drawn(chunks(LENGTH, 24, 4)))


def test_slices_drawn_apart_fail():
    assert not is_the_column(drawn([range(z, z + 1) for z in range(LENGTH)]))
    assert not is_the_column(drawn(chunks(LENGTH, 24, 0)))


def test_given_slices_stay_and_the_others_follow_them():
    """Slices 40 to 59 of a real column: those beside it are drawn as the column goes on, on either side."""
    real, where = drawn(chunks(LENGTH, 128, 4), seed=1), torch.zeros(LENGTH, dtype=torch.bool)
    where[40:60] = True
    for parts in (chunks(LENGTH, 128, 4), chunks(LENGTH, 50, 4)):
        filled = drawn(parts, known=Known(torch.where(where[:, None], real, math.inf), where))
        assert torch.equal(filled[where], real[where])
        assert is_the_column(filled)
    assert not is_the_column(torch.where(where[:, None], real, drawn(chunks(LENGTH, 128, 4))))


def test_known_slices_are_shown_at_the_last_level_at_each_step():
    generator = torch.Generator().manual_seed(0)
    noise, again, real = (torch.randn(6, 3, generator=generator) for _ in range(3))
    where, seen = torch.tensor([False, True, False, False, True, True]), []

    def record(x, sigma):
        seen.append((x.clone(), sigma))
        return torch.zeros_like(x)

    draw_volume(lambda _: record, noise, again, levels(4), [range(6)], Known(real, where))
    assert torch.equal(seen[0][0][~where], noise[~where] * FIRST)
    for (x, sigma), level in zip(seen, levels(4), strict=True):
        assert torch.equal(x[where], real[where] + LAST * again[where])
        assert torch.equal(sigma, torch.where(where, LAST, float(level)))


@pytest.mark.parametrize(
    ("length", "chunk", "overlap"), [(120, 128, 4), (128, 128, 4), (129, 128, 4), (300, 16, 8), (4, 5, 4)]
)
def test_chunks_cover_a_volume_and_overlap(length, chunk, overlap):
    parts = chunks(length, chunk, overlap)
    assert sorted({z for part in parts for z in part}) == list(range(length))
    assert max(map(len, parts)) == min(chunk, length)
    for before, part in itertools.pairwise(parts):
        assert part.start == before.stop - overlap
        assert len(part) > overlap


def test_a_chunk_no_longer_than_its_overlap_is_refused():
    with pytest.raises(ValueError, match=r"chunk \(4\) must be more than overlap \(4\)"):
        chunks(10, 4, 4)
