"""Arrays of a store that are not what was written are refused by whoever opens them, and made again."""

import json

import numpy as np
import pytest
from small_runs import ctsynth, settings
from small_stores import both_splits

from ctsynth.data.preprocess import preprocess
from ctsynth.data.settings import Settings
from ctsynth.data.store import Store
from ctsynth.errors import DataError
from ctsynth.files import sha256


@pytest.fixture
def store(tmp_path, small_case):
    return both_splits(tmp_path / "out", small_case)


def as_float64(path):
    np.save(path, np.load(path).astype(np.float64))


def in_fortran_order(path):
    np.save(path, np.asfortranarray(np.load(path)))


def big_endian(path):
    np.save(path, np.load(path).astype(np.load(path).dtype.newbyteorder(">")))


def one_slice_less(path):
    np.save(path, np.load(path)[1:])


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def lengthened(path):
    path.write_bytes(path.read_bytes() + b"\0")


def one_bit_flipped(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def several_arrays(path):
    with path.open("wb") as file:
        np.savez(file, ct=np.zeros(3))


def with_header(path, old, new):
    content = path.read_bytes()
    assert old in content[:128]
    path.write_bytes(content.replace(old, new.ljust(len(old)), 1))


def header_that_does_not_end(path):
    with_header(path, b"}", b" ")


def shape_of_a_bool(path):
    with_header(path, b"(6, 16, 16)", b"(True,16,6)")


def negative_shape(path):
    with_header(path, b"(6, 16, 16)", b"(-6,16,16)")


def endless_shape(path):
    with_header(path, b"(6, 16, 16)", b"(9**99,9,9)")


def huge_shape(path):
    with_header(path, b"16, 16), }" + b" " * 20, b"16, %d), }" % 2**62)


def gone(path):
    path.unlink()


DAMAGES = [
    as_float64, in_fortran_order, big_endian, one_slice_less, cut_short, emptied, lengthened, one_bit_flipped,
    several_arrays, header_that_does_not_end, shape_of_a_bool, negative_shape, endless_shape, huge_shape, gone,
]  # fmt: skip


BOTH = [(name, damage) for name in ("ct", "mask") for damage in DAMAGES]
BOTH.remove(("mask", big_endian))  # a byte has no order


@pytest.mark.parametrize(("name", "damage"), BOTH, ids=lambda one: getattr(one, "__name__", one))
def test_an_array_that_is_not_what_was_written_is_refused(store, name, damage):
    (subject,) = store.subjects("test")
    damage(subject.folder / f"{name}.npy")
    with pytest.raises(DataError, match=rf"test/subject_t/{name}\.npy: "):
        getattr(subject, name)()


def test_the_type_and_order_are_named(store):
    first, second = store.subjects("train")
    as_float64(first.folder / "ct.npy")
    in_fortran_order(second.folder / "ct.npy")
    with pytest.raises(DataError, match=r"float64 of shape \(6, 16, 16\), wanted int16 of \(6, 16, 16\)"):
        first.ct()
    with pytest.raises(DataError, match=r"int16 of shape \(6, 16, 16\) in Fortran order, wanted int16"):
        second.ct()


def rehashed(store, file):
    """The store, opened again with a manifest that vouches for the file."""
    manifest = store.root / "manifest.json"
    content = json.loads(manifest.read_text())
    for record in content["subjects"]:
        if file.parent.name == record["name"]:
            record[f"{file.stem}_sha256"] = sha256(file)
    manifest.write_text(json.dumps(content))
    return Store.open(store.root)


def test_a_mask_with_a_label_beyond_the_label_set_is_refused(store, tmp_path):
    file = store.subjects("train")[0].folder / "mask.npy"
    mask = np.load(file)
    mask[2, 3, 4] = 200
    np.save(file, mask)
    store = rehashed(store, file)
    with pytest.raises(DataError, match=r"mask\.npy: it holds label 200, and the label set ends at 16"):
        store.subjects("train")[0].mask()
    done = ctsynth("train", *settings(), "--data", store.root, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "it holds label 200" in done.stderr


HEADERS = [
    "{'descr': '<i2', 'fortran_order': False, 'shape': (99999999999999999999, 16, 16), }",
    "{'descr': '<i2', 'fortran_order': False, 'shape': (-6, 16, 16), }",
    "{'descr': '<i2', 'fortran_order': False, 'shape': ('6', 16, 16), }",
    "{'descr': '<i2', 'fortran_order': False, 'shape': (2**63, 16, 16), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (6, 16, 16), }",
    "{'descr': [('a', '<i2')], 'fortran_order': False, 'shape': (6, 16, 16), }",
    "{'descr': 'no type', 'fortran_order': False, 'shape': (6, 16, 16), }",
    "(" * 2000,
    "[1]",
    "\0",
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[:70])
def test_a_npy_header_that_no_program_writes_is_refused(header, store):
    file = store.subjects("train")[0].folder / "ct.npy"
    text = header.encode("latin1")
    file.write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(3072))
    with pytest.raises(DataError, match=r"ct\.npy: "):
        rehashed(store, file).subjects("train")[0].ct()


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04", b"PK\x05\x06", b"\x80\x04", b"\x93NUMPY", b"\x93NUMPY\xff\xff"]
)
def test_a_file_that_is_not_npy_is_refused(content, store):
    file = store.subjects("train")[0].folder / "ct.npy"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"ct\.npy: cannot map it"):
        rehashed(store, file).subjects("train")[0].ct()


def test_damage_after_a_check_is_found_by_the_next_check(store):
    before = np.array(store.subjects("test")[0].ct())
    one_bit_flipped(store.subjects("test")[0].folder / "ct.npy")
    with pytest.raises(DataError, match="damaged"):
        Store.open(store.root).subjects("test")[0].ct()
    assert before.shape == (6, 16, 16)


@pytest.mark.parametrize(("split", "name"), [("train/subject_1", "ct"), ("test/subject_t", "mask")])
def test_train_names_the_damaged_array_and_exits_with_2(store, tmp_path, split, name):
    one_bit_flipped(store.root / split / f"{name}.npy")
    done = ctsynth("train", *settings(iterations=2), "--data", store.root, "--out", tmp_path / "run")
    assert done.exit_code == 2, done.stderr
    assert f"{split}/{name}.npy: damaged" in done.stderr
    assert "ctsynth preprocess" in done.stderr


@pytest.mark.parametrize("damage", [cut_short, one_bit_flipped, as_float64], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["ct", "mask"])
def test_preprocess_tells_of_a_damaged_array_and_makes_it_again(small_amos, tmp_path, caplog, name, damage):
    source, out = small_amos(2, 1), tmp_path / "out"
    preprocess(source, out, settings=Settings(size=16), workers=1)
    file = out / "train" / "amos_0002" / f"{name}.npy"
    whole = file.read_bytes()
    damage(file)
    summary = preprocess(source, out, settings=Settings(size=16), workers=1)
    assert (summary.made, summary.kept) == (1, 2)
    assert "train/amos_0002 was damaged: made again" in caplog.text
    assert file.read_bytes() == whole


def edit_first_subject(store, **entries):
    manifest = store.root / "manifest.json"
    content = json.loads(manifest.read_text())
    content["subjects"][0] |= entries
    manifest.write_text(json.dumps(content))


NAMES = ["../../elsewhere", "/tmp/elsewhere", "..", ".", "", "a/b", "a\0b", "n" * 241]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_a_subject_name_that_is_a_path_is_refused(store, name):
    edit_first_subject(store, name=name)
    with pytest.raises(DataError, match=r"manifest\.json: .*(is no name of a file|wanted a string)"):
        Store.open(store.root)


@pytest.mark.parametrize("split", ["../elsewhere", "/tmp", "val", ""])
def test_a_subject_of_an_unknown_split_is_refused(store, split):
    edit_first_subject(store, split=split)
    with pytest.raises(DataError, match=r"manifest\.json: subjects\[0\]\.split is .*, wanted one of train, test"):
        Store.open(store.root)
