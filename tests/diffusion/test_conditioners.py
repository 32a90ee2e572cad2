"""What each conditioner makes of a label map: where it goes, how many channels it has, and the null map."""

import pytest
import torch

from ctsynth.diffusion.conditioners import (
    ConcatConditioner,
    EdgeConditioner,
    MaskConditioner,
    SegmapConditioner,
)

CLASSES, SIZE = 5, 16


@pytest.fixture
def labels():
    return torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=torch.Generator().manual_seed(0))


def make(cls, encoding="onehot", patch=1):
    torch.manual_seed(0)
    if cls in (ConcatConditioner, SegmapConditioner):
        return cls(CLASSES, encoding, patch)
    return cls(CLASSES, 4, (1, 2), 1, encoding, patch)


ALL = (ConcatConditioner, MaskConditioner, EdgeConditioner, SegmapConditioner)


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("encoding", ["onehot", "index"])
@pytest.mark.parametrize("cls", ALL)
def test_the_channels_are_those_that_it_announces(cls, encoding, patch, labels):
    conditioner = make(cls, encoding, patch)
    made, side = conditioner(labels), SIZE // patch
    for tensor, channels in (
        (made.concat, conditioner.concat_channels),
        (made.segmap, conditioner.segmap_channels),
    ):
        assert (tensor is None) == (channels == 0)
        assert tensor is None or tensor.shape == (2, channels, side, side)
    shapes = [
        (2, channels, side >> level, side >> level) for level, channels in enumerate(conditioner.feature_channels)
    ]
    assert [tuple(feature.shape) for feature in made.features] == shapes


@torch.no_grad()
def test_one_hot_has_a_one_where_the_class_is(labels):
    concat = make(ConcatConditioner)(labels).concat
    assert torch.equal(concat.argmax(1), labels)
    assert torch.equal(concat.sum(1), torch.ones(2, SIZE, SIZE))


@torch.no_grad()
@pytest.mark.parametrize("cls", ALL)
def test_the_null_map_is_the_same_whatever_the_labels(cls, labels):
    conditioner, none = make(cls), torch.zeros(2, dtype=torch.bool)
    one, other = conditioner(labels, none), conditioner(labels.flip(-1), none)
    for mine, theirs in zip((one.concat, one.segmap), (other.concat, other.segmap), strict=True):
        assert mine is theirs is None or not (mine.any() or theirs.any())
    assert all(map(torch.equal, one.features, other.features))
    kept = conditioner(labels, torch.tensor([True, False]))
    whole = conditioner(labels)
    for mine, theirs in zip(
        (*kept.features, kept.concat, kept.segmap), (*whole.features, whole.concat, whole.segmap), strict=True
    ):
        assert mine is theirs is None or torch.equal(mine[0], theirs[0])


@torch.no_grad()
def test_edges_alone_reach_the_edge_encoder(labels):
    conditioner = make(EdgeConditioner)
    flat, other = (torch.full((1, SIZE, SIZE), label) for label in (1, 3))
    assert all(map(torch.equal, conditioner(flat).features, conditioner(other).features))
    assert not torch.equal(conditioner(flat).concat, conditioner(other).concat)
