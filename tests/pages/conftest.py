"""The blocks of a page, in a folder of their own."""

import pytest
from page_blocks import Blocks


@pytest.fixture
def page(request, tmp_path, monkeypatch):
    """The blocks that ``runs`` names, to be run in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    blocks = Blocks(*request.function.blocks, monkeypatch.setenv)
    yield blocks
    assert blocks.done, "what `runs` marks as run was not"
