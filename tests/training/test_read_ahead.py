"""The slices of the next step are read while a step is computed, and no byte of the run depends on that."""

import threading

import numpy as np
import pytest
from small_runs import CPU, fit, weights
from small_stores import both_splits

from ctsynth.data.loader import SliceDataset, shuffled
from ctsynth.errors import DataError
from ctsynth.methods.ddpm_concat import ConditionalDDPM
from ctsynth.training import checkpoint

STEPS, SIZE = 6, 4


@pytest.fixture
def store(tmp_path, small_case):
    return both_splits(tmp_path / "out", small_case)


class SlowDisk:
    """A disk that ends no batch before the loss of the step before is computed, which waits for its beginning.

    In one thread neither could go on.
    """

    def __init__(self, monkeypatch):
        self.batches = []
        self.begun = [threading.Event() for _ in range(STEPS)]
        self.computed = [threading.Event() for _ in range(STEPS)]
        self.steps = 0
        read, loss = SliceDataset.read, ConditionalDDPM.loss

        def slow_read(dataset, indices, *context):
            number = len(self.batches)
            self.batches.append(indices)
            self.begun[number].set()
            assert number == 0 or self.computed[number - 1].wait(60), f"batch {number}: nobody computes"
            return read(dataset, indices, *context)

        def eager_loss(model, *words):
            number, self.steps = self.steps, self.steps + 1
            assert number + 1 == STEPS or self.begun[number + 1].wait(60), f"step {number}: nobody reads ahead"
            found = loss(model, *words)
            self.computed[number].set()
            return found

        monkeypatch.setattr(SliceDataset, "read", slow_read)
        monkeypatch.setattr(ConditionalDDPM, "loss", eager_loss)


def test_a_slow_disk_is_read_while_a_step_is_computed(store, tmp_path, monkeypatch):
    disk = SlowDisk(monkeypatch)
    fit(store, tmp_path / "run", iterations=STEPS, batch_size=SIZE)
    order = shuffled(12, 0, 0, STEPS * SIZE)
    assert [index for batch in disk.batches for index in batch] == order  # once each, and none beyond the end


@pytest.mark.parametrize("method", ["ddpm-concat", "oasis"])  # OASIS reads batches of its own for its statistics
def test_reading_ahead_changes_no_byte(store, tmp_path, small_case, monkeypatch, method):
    store = store if method == "ddpm-concat" else both_splits(tmp_path / "large", small_case, size=32)
    ahead = fit(store, tmp_path / "ahead", method)
    fit(store, tmp_path / "resumed", method, iterations=2)
    fit(store, tmp_path / "resumed", method)
    monkeypatch.setattr(SliceDataset, "read_ahead", lambda *_: None)
    in_turn = fit(store, tmp_path / "in_turn", method)
    assert weights(ahead, 6) == weights(tmp_path / "resumed", 6) == weights(in_turn, 6)


def test_a_batch_that_was_not_read_ahead_is_read_at_once(store):
    data = SliceDataset(store, "train")
    expected = data.read([5, 3])
    data.read_ahead([0, 1])
    other = data.batch([5, 3], CPU)
    same = data.batch([0, 1], CPU)
    assert np.array_equal(other.labels.numpy(), expected[1])
    assert np.array_equal(same.labels.numpy(), data.read([0, 1])[1])


def test_windows_are_read_ahead(store, monkeypatch):
    data = SliceDataset(store, "train")
    expected = data.batch([2, 8], CPU, 3, [1, 2])
    data.read_ahead([2, 8], 3, [1, 2])
    monkeypatch.setattr(data, "read", lambda _: pytest.fail("read again"))
    found = data.batch([2, 8], CPU, 3, [1, 2])
    assert np.array_equal(found.image.numpy(), expected.image.numpy())


def test_a_failed_read_ahead_is_an_error_of_its_own_step(store, tmp_path, monkeypatch):
    read, batches = SliceDataset.read, []

    def failing(dataset, indices, *context):
        batches.append(indices)
        if len(batches) == 4:
            raise DataError("ct.npy: it ends within slice 4")
        return read(dataset, indices, *context)

    monkeypatch.setattr(SliceDataset, "read", failing)
    with pytest.raises(DataError, match="it ends within slice 4"):
        fit(store, tmp_path / "run", save_every=1)
    assert checkpoint.step_of(checkpoint.saved(tmp_path / "run")[-1]) == 3
