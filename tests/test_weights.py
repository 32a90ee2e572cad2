import os
from dataclasses import replace

import pytest
import torch

from ctsynth import weights
from ctsynth.errors import DataError, RunError, UsageError
from ctsynth.files import sha256

FILE = weights.TABLE["vgg19"].file


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Two folders of the user's, ctsynth's own, torch hub's: all empty."""
    monkeypatch.setenv("CTSYNTH_WEIGHTS", f"{tmp_path / 'first'}{os.pathsep}{tmp_path / 'second'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return weights.folders()


@pytest.fixture
def vgg(tmp_path, monkeypatch):
    """A small file elsewhere that stands in for VGG-19's."""
    path = tmp_path / "download.pth"
    torch.save({"features.0.weight": torch.arange(6.0).view(2, 3)}, path)
    entry = replace(weights.TABLE["vgg19"], sha256=sha256(path), size=path.stat().st_size)
    monkeypatch.setitem(weights.TABLE, "vgg19", entry)
    return path


def put(vgg, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(vgg.read_bytes())
    return folder / FILE


@pytest.mark.parametrize("name", weights.TABLE)
def test_torch_hubs_names_begin_with_the_hash_they_end_with(name):
    entry = weights.TABLE[name]
    assert len(entry.sha256) == 64
    assert entry.file.removesuffix(".pth").endswith(f"-{entry.sha256[:8]}")
    assert entry.url.endswith(f"/{entry.file}")


def test_weights_folders_are_searched_in_this_order(folders, tmp_path):
    assert folders == [
        tmp_path / "first",
        tmp_path / "second",
        tmp_path / "data/ctsynth/weights",
        tmp_path / "torch/hub/checkpoints",
    ]


def test_without_variables_the_folders_are_the_users_own(monkeypatch, tmp_path):
    for name in ("CTSYNTH_WEIGHTS", "XDG_DATA_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.folders() == [
        tmp_path / ".local/share/ctsynth/weights", tmp_path / ".cache/torch/hub/checkpoints"
    ]  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "scratch"))
    assert weights.folders()[-1] == tmp_path / "scratch/torch/hub/checkpoints"


def test_the_folder_of_torch_hub_is_where_torch_looks(folders):
    assert str(folders[-1].parent) == torch.hub.get_dir()


def test_the_first_folder_that_has_the_file_wins(folders, vgg):
    assert weights.find("vgg19") is None
    for folder in reversed(folders):
        assert weights.find("vgg19") != put(vgg, folder)
        assert weights.find("vgg19") == folder / FILE


def test_intact_weights_are_not_missing_and_load(folders, vgg):
    put(vgg, folders[-1])
    assert weights.missing("vgg19") == ""
    assert weights.load("vgg19")["features.0.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_missing_weights_are_named_with_the_folders_searched_and_the_remedy(folders):
    reason = weights.missing("vgg19")
    assert all(str(folder) in reason for folder in folders)
    with pytest.raises(DataError, match="no vgg19 weights") as error:
        weights.load("vgg19")
    assert error.value.hint == weights.remedy("vgg19")
    assert f"curl -LO https://download.pytorch.org/models/{FILE}" in error.value.hint
    assert f"ctsynth weights import {FILE}" in error.value.hint


def test_one_flipped_bit_is_found_even_after_the_file_was_verified(folders, vgg):
    path = put(vgg, folders[0])
    assert weights.missing("vgg19") == ""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, (1, 1))
    assert "its SHA-256 is" in weights.missing("vgg19")
    with pytest.raises(DataError, match="damaged, or other weights"):
        weights.load("vgg19")


def test_random_weights_under_the_right_name_are_refused(folders):
    folders[-1].mkdir(parents=True)
    torch.save(
        {"Conv2d_1a_3x3.conv.weight": torch.randn(32, 3, 3, 3)}, folders[-1] / weights.TABLE["inception"].file
    )
    assert "wanted 6726825d0af5f729" in weights.missing("inception")
    with pytest.raises(DataError):
        weights.load("inception")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"step": 3}, {"net": torch.nn.Linear(1, 1)}])
def test_only_tensors_by_name_are_read(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other\.pth: (it holds|cannot read)"):
        weights.read(tmp_path / "other.pth")


def test_a_file_is_imported_under_its_right_name_into_the_first_folder(folders, vgg):
    target = weights.import_file(vgg)
    assert target == folders[0] / FILE == weights.find("vgg19")
    assert [path.name for path in folders[0].iterdir()] == [FILE]
    written = target.stat().st_mtime_ns
    assert weights.import_file(vgg) == weights.import_file(target) == target
    assert target.stat().st_mtime_ns == written


def test_without_a_user_folder_a_file_is_imported_into_ctsynths_own(folders, vgg, monkeypatch):
    monkeypatch.delenv("CTSYNTH_WEIGHTS")
    assert weights.import_file(vgg) == folders[2] / FILE


def test_importing_replaces_a_damaged_file(folders, vgg):
    put(vgg, folders[0]).write_bytes(b"half")
    assert sha256(weights.import_file(vgg)) == sha256(vgg)


def test_half_a_download_and_a_strange_file_are_refused_and_leave_nothing(folders, vgg, tmp_path):
    half, strange = tmp_path / FILE, tmp_path / "resnet.pth"
    half.write_bytes(vgg.read_bytes()[:100])
    strange.write_bytes(b"other")
    with pytest.raises(DataError, match=rf"\(100 bytes, wanted {vgg.stat().st_size:,}\)"):
        weights.import_file(half)
    with pytest.raises(DataError, match=r"resnet\.pth: its SHA-256 [0-9a-f]{64} is that of no known weights"):
        weights.import_file(strange)
    with pytest.raises(DataError, match="no such file"):
        weights.import_file(tmp_path)
    assert not any(folder.exists() for folder in folders)


def test_a_folder_that_cannot_be_made_is_a_run_error(vgg, monkeypatch):
    monkeypatch.setenv("CTSYNTH_WEIGHTS", str(vgg / "below-a-file"))
    with pytest.raises(RunError, match="cannot write it"):
        weights.import_file(vgg)


@pytest.mark.parametrize("ask", [weights.find, weights.missing, weights.remedy, weights.load])
def test_weights_of_an_unknown_name_are_refused_with_the_known_ones(ask):
    with pytest.raises(UsageError, match="no weights are called 'vgg16'") as error:
        ask("vgg16")
    assert "inception, vgg19" in error.value.hint


def test_totalsegmentators_folder_is_where_it_looks_itself(tmp_path, monkeypatch):
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path))
    assert weights.task_missing("total_fast") == f"no Dataset297_* in {tmp_path / 'nnunet' / 'results'}"
    for number in weights.TASKS["total"]:
        assert weights.task_missing("total")
        (tmp_path / "nnunet" / "results" / f"Dataset{number}_TotalSegmentator").mkdir(parents=True)
    assert weights.task_missing("total") == ""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "exact"))
    assert str(tmp_path / "exact") in weights.task_remedy("total")
