"""What tests of several metrics share."""

import pytest

from ctsynth.data.preprocess import Settings, preprocess
from ctsynth.data.store import Store
from ctsynth.phantom import make_phantom


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """A store of four phantoms to train on and three to score, 48 x 48, 24 slices 15 mm apart."""
    root = tmp_path_factory.mktemp("phantoms")
    make_phantom(root / "amos", subjects=4, test_subjects=3, size=48, slices=24)
    preprocess(root / "amos", root / "out", settings=Settings(size=48), workers=1)
    return Store.open(root / "out")
