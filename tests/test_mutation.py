"""What ``python -m tests.mutation`` is made of."""

import importlib.util
import sys
from types import ModuleType

import pytest

from tests.mutation.changes import changes
from tests.mutation.plant import plant

SOURCE = '''
from functools import cached_property

LIMIT = 3.0

def loss(x, weight=2.0):
    """Docstrings, defaults and messages are left alone."""
    if x < 0:
        raise ValueError("below 0")
    return weight * x.clamp(0, 1) + LIMIT

class Law:
    @cached_property
    def holds(self):
        return not loss is None
'''


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "arithmetic.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("arithmetic", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_every_operator_comparison_constant_and_call_is_changed_by_itself():
    assert [change.name for change in changes(SOURCE)] == [
        "constant: 3.0 -> 4.5",
        "loss: x < 0 -> x <= 0",
        "loss: x < 0 -> x >= 0",
        "loss: 0 -> 1",
        "loss: weight * x.clamp(0, 1) + LIMIT -> weight * x.clamp(0, 1) - LIMIT",
        "loss: weight * x.clamp(0, 1) + LIMIT -> weight * x.clamp(0, 1)",
        "loss: weight * x.clamp(0, 1) + LIMIT -> LIMIT",
        "loss: weight * x.clamp(0, 1) -> weight / x.clamp(0, 1)",
        "loss: weight * x.clamp(0, 1) -> weight",
        "loss: x.clamp(0, 1) -> x",
        "loss: 0 -> 1 (2)",
        "loss: 1 -> 2",
        "Law.holds: not loss is None -> loss is None",
        "Law.holds: loss is None -> loss is not None",
    ]


class Number(float):
    def clamp(self, low, high):
        return Number(min(max(self, low), high))


def planted(module: ModuleType, name: str) -> None:
    plant(module, next(change for change in changes(SOURCE) if change.name == name))


def test_a_changed_function_is_changed_for_those_who_hold_it_already(module):
    loss = module.loss
    assert loss(Number(5)) == 5
    planted(module, "loss: x.clamp(0, 1) -> x")
    assert loss(Number(5)) == 13
    planted(module, "loss: weight * x.clamp(0, 1) + LIMIT -> LIMIT")
    assert loss(Number(5)) == 3
    planted(module, "Law.holds: loss is None -> loss is not None")
    assert module.Law().holds is False


def test_a_changed_constant_is_changed_where_it_is_known(module, monkeypatch):
    other = ModuleType("other")
    other.LIMIT, other.OTHER = module.LIMIT, module.LIMIT
    for each in (module, other):
        monkeypatch.setitem(sys.modules, f"ctsynth.{each.__name__}", each)
    planted(module, "constant: 3.0 -> 4.5")
    assert module.loss(Number(0)) == 4.5
    assert (other.LIMIT, other.OTHER) == (4.5, 3.0)
