import math

import numpy as np
import pytest
import torch
from small_runs import CPU

from ctsynth.randomness import BatchRNG, hashed, seed_of

SHAPE = (1, 96, 96)
ERROR = 4 / 96  # four standard errors of a correlation over 96 x 96 numbers


def smooth(positions, *, seed=0, name="subject"):
    return BatchRNG.smooth(("sample", seed, name), positions, [(12.0, 1.0)], CPU).normal("start", SHAPE)


def correlation(a, b):
    return float(np.corrcoef(a.ravel().numpy(), b.ravel().numpy())[0, 1])


def test_a_draw_depends_on_its_key_and_name_only():
    keys = [("train", 3, n) for n in range(5)]
    together = BatchRNG.at(keys, CPU)
    other = BatchRNG.at(keys[::-1][1:3], CPU)
    assert torch.equal(together.normal("noise", SHAPE)[[3, 2]], other.normal("noise", SHAPE))
    assert torch.equal(together.integers("t", 1000)[[3, 2]], other.integers("t", 1000))
    assert torch.equal(together.normal("noise", SHAPE), together.normal("noise", SHAPE))  # no history


def test_draws_leave_torchs_own_generator_alone():
    before = torch.get_rng_state()
    BatchRNG.at([("a",)], CPU).normal("noise", SHAPE)
    assert torch.equal(before, torch.get_rng_state())


def test_keys_and_names_give_unrelated_numbers():
    rows = [
        BatchRNG.at([key], CPU).normal(name, SHAPE) for key in [("a", 1), ("a", 2), ("b", 1)] for name in ("x", 7)
    ]
    for i, a in enumerate(rows):
        assert a.mean().item() == pytest.approx(0, abs=ERROR)
        assert a.std().item() == pytest.approx(1, abs=ERROR)
        assert all(abs(correlation(a, b)) < ERROR for b in rows[:i])
    assert len({seed_of("a", 11), seed_of("a1", 1), seed_of("a", "11"), seed_of("a", 1, 1)}) == 4


def test_correlation_of_two_lengths_is_the_sum_of_two_gaussians():
    """At 8 mm and 40 mm with shares 0.65 and 0.35, as the noise of a volume."""
    near, far = 0.65, 0.35
    drawn = BatchRNG.smooth(("a",), [0.0, 3.0, 15.0, 45.0], [(8.0, near), (40.0, far)], CPU).normal("x", SHAPE)
    for row, d in zip(drawn[1:], (3, 15, 45), strict=True):
        expected = near * math.exp(-(d**2) / (2 * 8**2)) + far * math.exp(-(d**2) / (2 * 40**2))
        assert correlation(drawn[0], row) == pytest.approx(expected, abs=ERROR)
        assert row.std().item() == pytest.approx(1, abs=ERROR)


def test_hashes_are_those_of_splitmix64():
    """Vigna's splitmix64.c, for the seeds 0 and 1234567: its first outputs."""
    expected = [
        [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
        [6457827717110365317, 3203168211198807973, 9817491932198370423],
    ]
    found = hashed(torch.tensor([0, 1234567]), 3)
    assert [[number % 2**64 for number in row] for row in found.tolist()] == expected


def test_integers_are_uniform():
    counts = np.bincount(BatchRNG.at([("t", n) for n in range(4000)], CPU).integers("t", 8).numpy(), minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 26  # chi squared, 7 degrees, p = 5e-4


@pytest.mark.parametrize("distance", [0.7, 3.0, 12.0, 24.0])
@pytest.mark.parametrize("start", [0.0, 101.3])
def test_smooth_draws_correlate_as_a_gaussian_of_their_distance(distance, start):
    a, b = smooth([start, start + distance])
    assert a.std().item() == pytest.approx(1, abs=ERROR)
    assert b.std().item() == pytest.approx(1, abs=ERROR)
    assert correlation(a, b) == pytest.approx(math.exp(-(distance**2) / (2 * 12.0**2)), abs=ERROR)


def test_a_volume_may_be_cut_into_batches_anywhere():
    positions = [2.5 * n for n in range(9)]
    whole = smooth(positions)
    for cut in (1, 4, 8):
        assert torch.equal(whole, torch.cat([smooth(positions[:cut]), smooth(positions[cut:])]))
    assert torch.equal(whole.flip(0), smooth(positions[::-1]))


def test_other_subjects_and_seeds_have_other_noise():
    a = smooth([0.0, 5.0])
    for other in (smooth([0.0, 5.0], seed=1), smooth([0.0, 5.0], name="another")):
        assert abs(correlation(a[0], other[0])) < ERROR
        assert abs(correlation(a[1], other[1])) < ERROR


def test_items_of_a_group_share_draws_and_items_without_a_group_do_not():
    keys = [("train", 0, n) for n in range(3)]
    batch = BatchRNG.at(keys, CPU, group=("train", 0, "step", 5))
    z = batch.shared("z", (8,))
    assert z.shape == (3, 8)
    assert torch.equal(z, z[:1].expand(3, 8))
    part = BatchRNG.at(keys[2:], CPU, group=("train", 0, "step", 5))  # of an accumulated batch, or of another rank
    assert torch.equal(part.shared("z", (8,)), z[:1])
    assert not torch.equal(BatchRNG.at(keys, CPU, group=("train", 0, "step", 6)).shared("z", (8,)), z)
    alone = BatchRNG.at(keys, CPU)
    assert torch.equal(alone.shared("z", (8,)), alone.normal("z", (8,)))


def test_the_slices_of_a_volume_are_a_group():
    a, b = (
        BatchRNG.smooth(("sample", 0, name), [0.0, 300.0], [(12.0, 1.0)], CPU).shared("z", (8,)) for name in "ab"
    )
    assert torch.equal(a[0], a[1])
    assert not torch.equal(a[0], b[0])


def test_uniform_numbers_are_uniform():
    drawn = BatchRNG.at([("u", n) for n in range(4000)], CPU).uniform("keep")
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn.numpy(), bins=8, range=(0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 26  # chi squared, 7 degrees, p = 5e-4
