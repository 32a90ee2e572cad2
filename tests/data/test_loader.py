import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trained import CPU, both_splits

from ctsynth.data.loader import SliceDataset, shuffled


@given(st.integers(1, 40), st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_every_epoch_is_a_permutation(length, seed, epoch):
    assert sorted(shuffled(length, seed, epoch * length, length)) == list(range(length))


@given(st.integers(1, 30), st.integers(0, 2**31), st.integers(0, 100), st.integers(0, 40), st.integers(0, 40))
def test_the_order_is_a_function_of_seed_and_position(length, seed, start, first, second):
    whole = shuffled(length, seed, start, first + second)
    assert shuffled(length, seed, start + first, second) == whole[first:]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(shuffled(50, seed, 50 * epoch, 50)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@pytest.fixture
def store(tmp_path, small_case):
    return both_splits(tmp_path / "out", small_case)


def test_slices_come_in_the_order_of_the_subjects_and_splits_do_not_mix(store):
    train, test = SliceDataset(store, "train"), SliceDataset(store, "test")
    assert (len(train), len(test)) == (12, 6)
    first, second = store.subjects("train")
    assert np.array_equal(train[5][0], first.ct()[5])
    assert np.array_equal(train[6][1], second.mask()[0])
    assert np.array_equal(test[0][0], store.subjects("test")[0].ct()[0])
    for outside in (-1, 12):
        with pytest.raises(IndexError):
            train[outside]


def test_a_batch_is_within_minus_one_and_one_and_inverts_to_hu(store):
    data = SliceDataset(store, "train")
    batch = data.batch([11, 0, 3, 3], CPU)
    assert batch.image.shape == (4, 1, 16, 16)
    assert batch.image.dtype == torch.float32
    assert batch.labels.dtype == torch.int64
    assert batch.image.min() == -1  # air beside the patient
    assert batch.image.max() <= 1
    hu = np.rint(store.window.denormalize((batch.image[:, 0].numpy() + 1) / 2))
    assert np.array_equal(hu, np.stack([data[index][0] for index in [11, 0, 3, 3]]))
    assert np.array_equal(batch.labels.numpy(), np.stack([data[index][1] for index in [11, 0, 3, 3]]))
