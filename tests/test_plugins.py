"""A file in a folder is a plugin."""

import subprocess
import sys

import pytest
import torch  # noqa: F401  before sys.modules is replaced: it cannot be imported then

from ctsynth import plugins
from ctsynth.errors import UsageError

METHODS = "ctsynth.methods"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    monkeypatch.setenv("CTSYNTH_PLUGINS", str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path / "methods"


def test_names_are_files_with_hyphens_without_base_and_private_ones():
    seven = ["ddpm-concat", "ddpm-edge", "ddpm-mask", "oasis", "pix2pix", "sdm", "spade"]
    assert plugins.names(METHODS) == sorted([*seven, "edm", "edm-volume"])


def test_listing_imports_none_of_them():
    code = (
        "import sys; from ctsynth import plugins; plugins.names('ctsynth.methods'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_user_file_is_listed_and_loaded_once(folder):
    (folder / "my_gan.py").write_text("loaded = []\n")
    assert "my-gan" in plugins.names(METHODS)
    module = plugins.load(METHODS, "my-gan")
    assert module.loaded == []
    assert plugins.load(METHODS, "my-gan") is module


def test_built_in_plugins_come_before_a_file_of_the_same_name(folder):
    (folder / "ddpm_mask.py").write_text("raise AssertionError\n")
    assert plugins.load(METHODS, "ddpm-mask").__file__ != str(folder / "ddpm_mask.py")
    assert plugins.names(METHODS).count("ddpm-mask") == 1


def test_several_folders_are_separated_as_in_path(folder, tmp_path, monkeypatch):
    (tmp_path / "more" / "methods").mkdir(parents=True)
    (tmp_path / "more" / "methods" / "other.py").touch()
    (folder / "mine.py").touch()
    monkeypatch.setenv("CTSYNTH_PLUGINS", f"{tmp_path}::{tmp_path / 'more'}:{tmp_path / 'absent'}")
    assert {"mine", "other"} <= set(plugins.names(METHODS))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no method is called 'gan'") as refused:
        plugins.load(METHODS, "gan")
    assert "ddpm-concat, ddpm-edge, ddpm-mask, edm" in refused.value.hint


def test_a_file_without_a_class_of_its_own_is_named(folder):
    from ctsynth.methods.base import Method

    (folder / "empty.py").write_text("from ctsynth.methods.ddpm_mask import MaskGuidedDDPM\n")
    with pytest.raises(UsageError, match=r"empty\.py: defines no method") as refused:
        plugins.find(METHODS, "empty", Method)
    assert "ctsynth.methods.base.Method" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("\0", "SyntaxError|ValueError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_error(folder, text, said):
    (folder / "broken.py").write_text(text)
    for _ in range(2):
        with pytest.raises(UsageError, match=rf"broken\.py: cannot be imported: ({said})"):
            plugins.load(METHODS, "broken")
