import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctsynth.networks.conditioning import edges, from_patches, one_hot, scaled_index, to_patches

MAPS = hnp.arrays(
    np.int64, st.tuples(st.just(2), st.integers(2, 9), st.integers(2, 9)), elements=st.integers(0, 4)
)


@given(MAPS)
def test_one_hot_sums_to_one_and_its_argmax_is_the_label(maps):
    labels = torch.from_numpy(maps)
    channels = one_hot(labels, 5)
    assert channels.shape == (2, 5, *labels.shape[1:])
    assert torch.equal(channels.sum(1), torch.ones(labels.shape))
    assert torch.equal(channels.argmax(1), labels)


@given(MAPS)
def test_an_edge_is_where_a_neighbor_differs_on_both_sides(maps):
    found = edges(torch.from_numpy(maps))[:, 0].numpy()
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = [padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]]
    assert np.array_equal(found, np.any([maps != other for other in around], axis=0))


@given(MAPS, st.permutations(range(5)))
def test_edges_do_not_depend_on_which_labels_meet(maps, renamed):
    assert torch.equal(edges(torch.from_numpy(maps)), edges(torch.from_numpy(np.array(renamed)[maps])))


def test_the_index_spans_minus_one_to_one():
    labels = torch.arange(17).reshape(1, 1, 17)
    torch.testing.assert_close(scaled_index(labels, 17)[0, 0, 0], torch.linspace(-1, 1, 17))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_fold_and_unfold(patch):
    x = torch.randn(2, 3, 8, 8)
    folded = to_patches(x, patch)
    assert folded.shape == (2, 3 * patch**2, 8 // patch, 8 // patch)
    assert torch.equal(from_patches(folded, patch), x)
