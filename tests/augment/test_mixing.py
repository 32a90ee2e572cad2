"""What the batches of an arm hold."""

from dataclasses import replace

import pytest
from small_stores import both_splits

from ctsynth.augment.mixing import TrainingSet, view_of
from ctsynth.errors import DataError


@pytest.fixture
def store(tmp_path, small_case):
    return both_splits(tmp_path / "out", small_case)


def copies(subject, count=1):
    """Subjects of the same arrays under other names."""
    return [replace(subject, name=f"{subject.name}_{number}") for number in range(count)]


def test_every_second_slice_is_one_of_the_others_at_the_same_place(store):
    real = tuple(store.subjects("train"))
    content = TrainingSet(real, {subject.name: copies(subject, 2) for subject in real})
    mixed, plain = content.dataset(store), TrainingSet(real).dataset(store)
    length = len(plain)
    order = mixed.order(3, 0, 4 * length)
    names = [mixed.subjects[int(mixed.starts.searchsorted(index, side="right")) - 1].name for index in order]
    assert [name.count("_") for name in names] == [1, 2] * (2 * length)
    assert len(set(names[1::2])) == 4
    (ct, mask), (own_ct, own_mask) = mixed.read(order), plain.read(plain.order(3, 0, 4 * length))
    assert (ct == own_ct).all()
    assert (mask == own_mask).all()


def test_no_slice_is_real_where_the_arm_has_none(store):
    real = tuple(store.subjects("train"))
    content = TrainingSet(real, {subject.name: copies(subject) for subject in real}, is_mixed=False)
    assert set(content.view(store).subjects_by_name) == {f"{subject.name}_0" for subject in real}
    dataset = content.dataset(store)
    assert sorted(dataset.order(0, 0, len(dataset))) == list(range(len(dataset)))


def test_further_subjects_have_an_order_of_their_own(store):
    first, second = store.subjects("train")
    dataset = TrainingSet((first,), further=(second,)).dataset(store)
    order = dataset.order(0, 0, 2 * first.slices)
    assert set(order[::2]) <= set(range(first.slices))
    assert sorted(order[1::2]) == list(range(first.slices, first.slices + second.slices))


def test_a_test_subject_is_never_trained_on(store):
    (test,) = store.subjects("test")
    for subject in (test, replace(test, name="other", split="train")):
        with pytest.raises(DataError, match="is a test subject: nothing may be trained on it"):
            view_of(store, [*store.subjects("train"), subject])
