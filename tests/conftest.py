"""What tests of more than one module share: real CT, and small volumes made on the spot."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from pathlib import Path

import hypothesis
import nibabel as nib
import numpy as np
import pytest
from small_cases import make_small_case

from ctsynth import files
from ctsynth.data.preprocess import preprocess
from ctsynth.data.settings import Settings
from ctsynth.data.store import Store
from ctsynth.phantom import make_phantom
from ctsynth.stop import SIGNALS

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Before torch is imported: small networks are slower on two threads, and their number changes rounding."""

os.fsync = lambda _: None
"""The tests' files need not outlive a power cut, and waiting for the disk takes milliseconds a file."""

hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")
"""Examples may take any time: the machine may have more to do."""


LONGEST = ("slurm", "learning", "resume", "fuzz", "compile_blocks", "dryrun", "distributed", "faults", "study")


def pytest_collection_modifyitems(items):
    """Begins with the files that take longest: one that began last would leave the other workers without work."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(autouse=True)
def no_weights_of_ones_own(tmp_path_factory, monkeypatch):
    """What lies in a developer's caches changes no result."""
    nowhere = str(tmp_path_factory.getbasetemp() / "nowhere")
    for name in ("CTSYNTH_WEIGHTS", "XDG_DATA_HOME", "TORCH_HOME", "TOTALSEG_HOME_DIR"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.delenv("CTSYNTH_FD_WEIGHTS", raising=False)


@pytest.fixture(autouse=True)
def own_signal_handlers():
    """A command that a signal has stopped leaves its handlers to the end of the process."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def logs_reach_caplog(monkeypatch):
    """A command in this process sends the package's log records to stderr alone, also after its end."""
    monkeypatch.setattr(logging.getLogger("ctsynth"), "propagate", True)


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """Changes a file of the package, as far as ``code_digest`` sees: it reads a copy."""
    package = tmp_path / "code" / "ctsynth"
    shutil.copytree(files._PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(files, "_PACKAGE", package)
    files.code_digest.cache_clear()

    def change(name: str) -> None:
        path = package / name
        path.write_text(path.read_text() + "# changed\n")
        files.code_digest.cache_clear()

    yield change
    files.code_digest.cache_clear()


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """Two real CT in AMOS22's layout; they lie beside the checkout and are no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "real_ct"
    if not folder.is_dir():
        pytest.skip(f"no real CT in {folder}")
    return folder


@pytest.fixture
def small_case():
    """``make_small_case``."""
    return make_small_case


@pytest.fixture
def write_nifti():
    """Writes RAS+ voxels as a NIfTI file, with other axes where an orientation as ``LPS`` is given."""

    def write(path: Path, voxels: np.ndarray, affine: np.ndarray, axes: str = "RAS") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        turned = affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)
        image = nib.Nifti1Image(nib.orientations.apply_orientation(voxels, turn), turned)
        image.set_sform(turned, 1)
        image.set_qform(turned, 1)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        return path

    return write


@pytest.fixture
def small_amos(tmp_path, small_case, write_nifti):
    """Makes a folder in AMOS22's layout: so many train and test subjects, and one MR in each split."""

    def make(train: int = 2, test: int = 2) -> Path:
        root = tmp_path / "amos"
        numbers = {"Tr": [*range(1, train + 1), 507], "Va": [*range(101, test + 101), 600]}
        for end, members in numbers.items():
            for number in members:
                case = small_case(number)
                write_nifti(root / f"images{end}" / f"amos_{number:04}.nii.gz", case.hu, case.affine)
                write_nifti(root / f"labels{end}" / f"amos_{number:04}.nii.gz", case.labels, case.affine)
        return root

    return make


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Store:
    """A store of four phantoms to train on and three to score, 48 x 48, 24 slices 15 mm apart."""
    root = tmp_path_factory.mktemp("phantoms")
    make_phantom(root / "amos", subjects=4, test_subjects=3, size=48, slices=24)
    preprocess(root / "amos", root / "out", settings=Settings(size=48), workers=1)
    return Store.open(root / "out")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """A folder with the store out and runs/one, which was trained on it; not to be changed."""
    from small_runs import fit  # torch, which most tests do without
    from small_stores import both_splits

    root = tmp_path_factory.mktemp("small_run")
    fit(both_splits(root / "out", make_small_case), root / "runs" / "one", lr=3e-2, ema=0.1)
    return root


@pytest.fixture
def run_folder(small_run, tmp_path, small_case, write_nifti, monkeypatch) -> Path:
    """A copy of ``small_run`` with a label volume, seg.nii.gz: the working directory."""
    from small_runs import labels_like

    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    case = small_case(3)
    write_nifti(tmp_path / "seg.nii.gz", labels_like(case), case.affine, "LPS")
    monkeypatch.chdir(tmp_path)
    return tmp_path
