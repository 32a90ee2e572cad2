"""Files and folders are there as a whole or not at all."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ctsynth.errors import DataError, RunError
from ctsynth.files import HashedFile, atomic, read_json, remove_leftovers, sha256, sole, write_json, write_text


def write_half(path, error, *, folder=False):
    with atomic(path) as partial:
        if folder:
            partial.mkdir()
        (partial / "half" if folder else partial).write_text("half")
        raise error


def test_a_file_appears_under_its_name_on_success_only(tmp_path):
    path = tmp_path / "new" / "scan.nii.gz"
    with atomic(path) as partial:
        partial.write_bytes(b"whole")
        assert not path.exists()
        assert partial.name.endswith(".nii.gz")  # writers choose the format by it
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("names", [[""], ["deep/one", "two"]], ids=["a file", "a folder"])
def test_all_bytes_are_on_the_disk_before_the_name_is(names, tmp_path, monkeypatch):
    """Else a power cut could leave a file or a folder whose name is right and whose content is not."""
    path, synced = tmp_path / "whole", []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append((os.fstat(handle).st_ino, path.exists())))
    with atomic(path) as partial:
        for name in names:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text("content")
    assert sorted(synced) == sorted(((path / name).stat().st_ino, False) for name in names)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_behind_on_failure_and_the_old_file_stays(error, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix_their_content(tmp_path):
    """As two containers on one file system, where both have the same process id."""
    path = tmp_path / "features.npy"
    with atomic(path) as one, atomic(path) as other:
        one.write_text("whole")
        other.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_an_older_one(tmp_path):
    path = tmp_path / "step_1"
    path.mkdir()
    (path / "old").touch()
    with atomic(path) as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep" / "new").touch()
    assert [file.name for file in path.rglob("*")] == ["deep", "new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_half_written_is_removed_and_the_old_one_stays(tmp_path):
    path = tmp_path / "step_1"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ValueError):  # noqa: PT011  any of the writer's own
        write_half(path, ValueError, folder=True)
    assert [file.name for file in tmp_path.rglob("*")] == ["step_1", "old"]


@pytest.mark.parametrize(("number", "hint"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "permissions")])
def test_a_disk_error_is_a_run_error_that_names_the_file(number, hint, tmp_path):
    with pytest.raises(RunError) as failed:
        write_half(tmp_path / "ct.npy", OSError(number, os.strerror(number)))
    assert str(failed.value) == f"{tmp_path / 'ct.npy'}: cannot write it: {os.strerror(number)}"
    assert hint in failed.value.hint
    assert not list(tmp_path.iterdir())


def test_a_file_where_the_folder_should_be_is_a_run_error(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(RunError, match="out"):
        write_text(tmp_path / "out" / "a.txt", "a")


def test_json_and_back_without_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None, "ä"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, None, "ä"]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), (b"{", "not a JSON"), (b"\xff", "not a JSON")]
)
def test_invalid_json_is_refused_by_file_name(content, said, tmp_path):
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json") as refused:
        read_json(path)
    assert said in str(refused.value)


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_second_process_is_refused_and_a_dead_one_leaves_no_lock(tmp_path):
    lock = tmp_path / "run" / ".lock"
    code = f"""
import sys, time
from pathlib import Path
from ctsynth.files import sole
with sole(Path({str(lock)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="another process is at work on it"), sole(lock):
        pass
    other.kill()
    other.communicate()
    with sole(lock):
        assert lock.exists()
    assert not lock.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested more than 50 deep"),
        (b'{"a":' * 100_000, "nested more than 50 deep"),
        (b"[" * 60 + b"]" * 60, "nested more than 50 deep"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": -Infinity}', "-Infinity is no finite number"),
        (b'{"a": 1e999}', "1e999 is no finite number"),
        (b"9" * 5000, "not a JSON file"),
        (rb'["half of a pair: \ud83d"]', "not a JSON file"),
        (b"\xff\xfe\x00", "not a JSON file"),
        (b"", "not a JSON file"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:9].decode("latin1"),
)
def test_json_beyond_our_limits_is_refused(content, said, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_json(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_a_folder_and_an_endless_device_are_not_read_as_json(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="cannot read it: Is a directory"):
        read_json(tmp_path)
    monkeypatch.setattr("ctsynth.files._MOST_JSON", 1 << 20)
    with pytest.raises(DataError, match="more than 1 MiB"):
        read_json(Path("/dev/zero"))


def test_a_byte_order_mark_is_ignored(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[1.5]")
    assert read_json(tmp_path / "x.json") == [1.5]


@pytest.mark.parametrize("length", [201, 255])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_name_as_long_as_a_file_system_takes_is_written_and_swept(length, letter, tmp_path):
    count = (length - len(".nii.gz")) // len(letter.encode())
    path = tmp_path / f"{letter * count}.nii.gz"
    with atomic(path) as partial:
        partial.write_text("whole")
        assert partial.name.endswith(".nii.gz")
        half = partial.name
    assert path.read_text() == "whole"
    (tmp_path / half).write_text("half")
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [256, 5000])
def test_a_name_too_long_for_the_file_system_is_an_error_that_says_so(length, tmp_path):
    with pytest.raises(RunError, match="cannot write it: File name too long") as refused:
        write_text(tmp_path / ("x" * length), "")
    assert "255 bytes" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [".", "/", ""])
def test_a_path_without_a_name_is_an_error(path):
    with pytest.raises(RunError, match="cannot write it: it is a folder"):
        write_text(Path(path), "")


def test_a_name_that_is_not_utf_8_goes_through_json_and_text(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "x.json", [name, "\U0001f642"])
    assert read_json(tmp_path / "x.json") == [name, "\U0001f642"]
    write_text(tmp_path / "x.txt", name)
    assert (tmp_path / "x.txt").read_bytes() == b"caf\xe9"


def test_a_file_is_hashed_while_it_is_written(tmp_path):
    """Would one wait for the other the barrier would break."""
    both = threading.Barrier(2, timeout=60)

    class Meeting:
        def __init__(self, real):
            self.real = real

        def update(self, data):
            both.wait()
            self.real.update(data)

        def write(self, data):
            both.wait()
            return self.real.write(data)

        def __getattr__(self, name):
            return getattr(self.real, name)

    with HashedFile(tmp_path / "file") as file:
        file._file, file._hash = Meeting(file._file), Meeting(file._hash)
        for number in range(3):
            assert file.write(bytes([number]) * 1000) == 1000
    assert file.sha256 == sha256(tmp_path / "file")
