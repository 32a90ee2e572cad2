import errno
import os
import resource
from pathlib import Path

import forked_commands
import numpy as np
import pytest
from small_stores import both_splits

from ctsynth.data.loader import SliceDataset, shuffled
from ctsynth.data.slice_files import SliceFiles
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry
from ctsynth.errors import DataError, RunError
from ctsynth.labels import AMOS22

SIDE = 8


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store of 150 subjects of two slices, whose first voxel is the slice's number in the data set."""
    root = tmp_path_factory.mktemp("store")
    settings = {"size": SIDE, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    geometry = Geometry((SIDE, SIDE, 2), np.diag([3.0, 3.0, 5.0, 1.0])).as_json()
    names = [f"subject_{number:03}" for number in range(150)]
    for number, name in enumerate(names):
        ct = np.full((2, SIDE, SIDE), 7, np.int16)
        ct[:, 0, 0] = 2 * number, 2 * number + 1
        mask = np.full(ct.shape, number % 17, np.uint8)
        write_subject(root, {"name": name, "split": "train", "geometry": geometry}, settings, ct, mask)
    write_manifest(root, settings, [("train", name) for name in names])
    return root


def epoch_under_a_limit(root: Path, limit: int) -> tuple[list[int], int]:
    """The first voxel of every slice, in an order at random, and the most files that were open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    data, found, most = SliceDataset(Store.open(root), "train"), {}, 0
    for epoch in range(2):
        for index in shuffled(len(data), 0, epoch * len(data), len(data)):
            hu, labels = data.read([index])
            assert (labels == index // 2 % 17).all()
            found[index] = int(hu[0, 0, 0])
            most = max(most, len(list(Path("/proc/self/fd").iterdir())))
    return [found[index] for index in range(len(data))], most


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in Linux's /proc")
def test_a_store_of_more_files_than_may_be_open_is_read(many):
    with forked_commands.server.Pool(1, maxtasksperchild=1) as pool:
        found, most = pool.apply(epoch_under_a_limit, (many, 64))
    assert found == list(range(300))
    assert most < 64


def test_files_stay_open_where_the_limit_allows_it(many, monkeypatch):
    data = SliceDataset(Store.open(many), "train")
    indices = list(range(0, 300, 2))
    data.read(indices)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened again"))
    data.read(indices)


def test_a_file_that_was_replaced_after_it_was_closed_is_compared_again(tmp_path, small_case, monkeypatch):
    store = both_splits(tmp_path / "store", small_case)
    first, second = store.subjects("train")
    monkeypatch.setattr("ctsynth.data.slice_files._room", lambda wanted: 1)
    files, slice_ = SliceFiles(2), np.empty((16, 16), np.int16)
    files.read(first, "ct", 0, slice_)
    path = first.folder / "ct.npy"
    array = np.load(path)
    path.unlink()
    np.save(path, array + 1)
    files.read(second, "ct", 0, slice_)
    with pytest.raises(DataError, match="damaged"):
        files.read(first, "ct", 0, slice_)


def test_an_open_file_limit_too_low_to_read_is_named(tmp_path, small_case, monkeypatch):
    subject = both_splits(tmp_path / "store", small_case).subjects("train")[0]
    files, slice_ = SliceFiles(1), np.empty((16, 16), np.int16)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("numpy.lib.format.open_memmap", refuse)
    with pytest.raises(RunError, match="Too many open files") as first:
        files.read(subject, "ct", 0, slice_)
    monkeypatch.undo()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match="Too many open files") as second:
        files.read(subject, "ct", 0, slice_)
    assert first.value.hint == second.value.hint == "raise the limit of open files: ulimit -n 4096"
