import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import forked_commands
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import CPU
from small_stores import both_splits

from ctsynth.data.loader import SliceDataset, shuffled
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.errors import DataError
from ctsynth.labels import AMOS22
from ctsynth.training.distributed import World
from ctsynth.training.stepper import Stepper


@given(st.integers(1, 40), st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_every_epoch_is_a_permutation(length, seed, epoch):
    assert sorted(shuffled(length, seed, epoch * length, length)) == list(range(length))


@given(st.integers(1, 30), st.integers(0, 2**31), st.integers(0, 100), st.integers(0, 40), st.integers(0, 40))
def test_the_order_is_a_function_of_seed_and_position(length, seed, start, first, second):
    whole = shuffled(length, seed, start, first + second)
    assert shuffled(length, seed, start + first, second) == whole[first:]


class Numbers(list):
    """A data set whose batches are the numbers of its slices."""

    def __init__(self, length):
        super().__init__(range(length))

    def order(self, seed, start, count):
        return shuffled(len(self), seed, start, count)

    def batch(self, indices, device, window, strides, context):
        return [index for index in indices for _ in range(window)]


@given(
    st.integers(1, 40),
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 3]),
    st.randoms(),
)
def test_ranks_share_the_order_without_overlap_or_loss(length, seed, ranks, accumulate, share, window, random):
    """What a rank works on is a function of the seed, the step and the number of ranks, and of nothing else."""
    share, model = share * window, SimpleNamespace(window=window, strides=(1,), label_context=0)
    size = ranks * accumulate * share
    settings = SimpleNamespace(batch_size=size, accumulate=accumulate, seed=seed)
    visits = [(step, rank) for step in range(-(-2 * length * window // size)) for rank in range(ranks)]
    random.shuffle(visits)  # none needs what another has done
    seen = {}
    for step, rank in visits:
        about = {"settings": settings, "world": World(rank, ranks), "labels": AMOS22, "device": CPU}
        stepper = SimpleNamespace(step=step, dataset=Numbers(length), model=model, **about)
        for part in Stepper._parts(stepper):
            positions = list(part)
            assert len(positions) == share
            assert {position // size for position in positions} == {step}  # the batch is one rank's alone
            assert seen.keys().isdisjoint(positions)
            seen |= zip(positions, Stepper._batch(stepper, part), strict=True)
    order = [seen[position] for position in range(0, len(seen), window)]
    assert [seen[position] for position in range(len(seen))] == [one for one in order for _ in range(window)]
    assert order == shuffled(length, seed, 0, len(order))
    for start in (0, length):
        assert sorted(order[start : start + length]) == list(range(length))


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
    assert np.array_equal(train.read([5])[0][0], first.ct()[5])
    assert np.array_equal(train.read([6])[1][0], second.mask()[0])
    assert np.array_equal(test.read([0])[0][0], store.subjects("test")[0].ct()[0])
    for outside in (-1, 12):
        with pytest.raises(IndexError):
            train.read([outside])


def test_a_batch_is_within_minus_one_and_one_and_inverts_to_hu(store):
    data = SliceDataset(store, "train")
    batch = data.batch([11, 0, 3, 3], CPU)
    assert batch.image.shape == (4, 1, 16, 16)
    assert batch.image.dtype == torch.float32
    assert batch.labels.dtype == torch.int64
    assert batch.image.min() == -1  # air beside the patient
    assert batch.image.max() <= 1
    hu = np.rint(store.window.denormalize((batch.image[:, 0].numpy() + 1) / 2))
    assert np.array_equal(hu, data.read([11, 0, 3, 3])[0])
    assert np.array_equal(batch.labels.numpy(), data.read([11, 0, 3, 3])[1])


@pytest.mark.parametrize("strides", [[1, 1, 1], [2, 1, 2]])
def test_a_window_has_its_middle_and_what_lies_around_it_in_its_volume(store, strides):
    data, middles = SliceDataset(store, "train"), [0, 5, 8]  # of subjects of 6 slices
    batch = data.batch(middles, CPU, 4, strides)
    plain = data.batch(list(range(12)), CPU)
    pairs = zip(middles, strides, strict=True)
    places = [[middle + stride * offset for offset in (-2, -1, 0, 1)] for middle, stride in pairs]
    inside = [[low <= place < low + 6 for place in row] for row, low in zip(places, (0, 0, 6), strict=True)]
    assert batch.windows.valid.tolist() == inside
    for row, place in enumerate(place for window in places for place in window):
        if batch.windows.valid.flatten()[row]:
            assert torch.equal(batch.image[row], plain.image[place])
            assert torch.equal(batch.labels[row], plain.labels[place])
    assert batch.windows.spacing.tolist() == [5.0] * 3
    assert batch.windows.stride.tolist() == strides
    first, *_ = batch.split(3)
    assert torch.equal(first.image, batch.image[:4])
    assert first.windows.valid.tolist() == inside[:1]


def test_a_context_has_the_labels_of_the_slices_around_in_the_same_volume(store):
    data = SliceDataset(store, "train")
    plain = data.batch(list(range(12)), CPU)
    batch = data.batch([0, 3, 5, 6], CPU, context=2)  # subjects have 6 slices
    assert torch.equal(batch.image, plain.image[[0, 3, 5, 6]])
    assert torch.equal(batch.own_labels, plain.labels[[0, 3, 5, 6]])
    around = [[0, 0, 0, 1, 2], [1, 2, 3, 4, 5], [3, 4, 5, 5, 5], [6, 6, 6, 7, 8]]
    assert torch.equal(batch.labels, torch.stack([plain.labels[row] for row in around]))
    data.read_ahead([0, 3], context=2)
    assert torch.equal(data.batch([0, 3], CPU).labels, plain.labels[[0, 3]])  # another context is read anew
    data.read_ahead([0, 3], context=2)
    assert torch.equal(data.batch([0, 3], CPU, context=2).labels, batch.labels[:2])


def test_a_file_that_is_cut_off_while_it_is_read_is_named(store):
    train = SliceDataset(store, "train")
    train.read([0])
    os.truncate(store.subjects("train")[0].folder / "ct.npy", 1000)
    with pytest.raises(DataError, match=r"subject_0/ct\.npy: it ends within slice 4"):
        train.read([4])


def store_of(root, subjects):
    """Of 50 slices of 128 x 128 each, 2.4 MB."""
    settings = {"size": 128, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    ct, mask = np.full((50, 128, 128), 7, np.int16), np.full((50, 128, 128), 6, np.uint8)
    geometry = Geometry((128, 128, 50), np.diag([3.0, 3.0, 5.0, 1.0])).as_json()
    names = [f"subject_{number:03}" for number in range(subjects)]
    for number, name in enumerate(names):
        ct[0, 0, 0] = number  # no two subjects of a store have the same image
        write_subject(root, {"name": name, "split": "train", "geometry": geometry}, settings, ct, mask)
    write_manifest(root, settings, [("train", name) for name in names])
    return root


def resident_after_an_epoch(root):
    """Bytes of the store's mapped files and the most of its own; code comes and goes as the machine has room."""
    tracemalloc.start()
    data = SliceDataset(Store.open(root), "train")
    for start in range(0, len(data), 16):
        data.batch(shuffled(len(data), 0, start, 16), CPU)
    resident, is_of_store = tracemalloc.get_traced_memory()[1], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, value = line.split(maxsplit=1)
        if not name.endswith(":"):
            is_of_store = str(root) in value
        elif is_of_store and name == "Rss:":
            resident += int(value.split()[0]) * 1024
    return resident


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="memory is counted in Linux's /proc")
def test_resident_memory_does_not_grow_with_the_data_set(tmp_path):
    roots = [store_of(tmp_path / f"{subjects}", subjects) for subjects in (4, 40)]
    with forked_commands.server.Pool(1, maxtasksperchild=1) as pool:
        small, large = pool.map(resident_after_an_epoch, roots, chunksize=1)
    assert large - small < 8e6  # of 88 MB more
