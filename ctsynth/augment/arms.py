"""The arms of the study: what a segmenter sees in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ctsynth.errors import UsageError

Others = Literal["deformed", "synthetic", "synthetic_deformed", "further", "copies", "class_means", "shuffled"]
"""What an arm has beside the real subjects of its fraction, or in their place."""


DRAWN: tuple[Others, ...] = ("synthetic", "synthetic_deformed")
"""What a generator draws."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What a segmenter is trained on.

    Args:
        name: As on the command line and in tables.
        title: In words.
        others: What it has beside real slices; None where it has none.
        real: Half of every batch is real; if not, none is.
        cutmix: Boxes of one slice of a batch are pasted into another.
        dosed: Every dose is run, not only the first.
    """

    name: str
    title: str
    others: Others | None = None
    real: bool = True
    cutmix: bool = False
    dosed: bool = False

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return self.name.replace("'", "")

    def called(self, dose: int) -> str:
        """Its name, and its dose where that is more than 1."""
        return f"{self.name} x{dose}" if dose > 1 else self.name


_ARMS = (
    Arm("R", "real"),
    Arm("R+C", "real, with CutMix", cutmix=True),
    Arm("R+Dr", "real, and real images deformed with their labels", "deformed", dosed=True),
    Arm("R+S", "real, and synthetic images of the same masks", "synthetic", dosed=True),
    Arm("R+D", "real, and synthetic images of deformed masks", "synthetic_deformed", dosed=True),
    Arm("S", "synthetic images of the same masks alone", "synthetic", real=False),
    Arm("D", "synthetic images of deformed masks alone", "synthetic_deformed", real=False),
    Arm("R+R'", "real, and as many further real subjects", "further"),
    Arm("R+real", "control: the real images in place of synthetic ones", "copies"),
    Arm("R+mean", "control: class means and noise in place of synthetic images", "class_means"),
    Arm("R+shuffled", "control: real images with the labels of other subjects", "shuffled"),
)

ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ARMS}

BASELINE = "R"

PROTOCOL = tuple(name for name in ARMS if not ARMS[name].title.startswith("control"))
"""What is run unless others are named: all arms but the controls."""

HEADLINE = (("R+D", "R+Dr"), ("R+D", "R+C"))
"""The contrasts that the study is about: is the texture worth it, and does it beat CutMix?"""


def arms_of(names: str) -> tuple[str, ...]:
    """The arms of a comma-separated list, in the table's order, with the baseline.

    ``R+R`` is another spelling of ``R+R'``, and ``controls`` stands for all three.

    Raises:
        UsageError: There is no arm of that name.
    """
    wanted = {BASELINE}
    for name in (part.strip() for part in names.split(",")):
        if name == "controls":
            wanted |= set(ARMS) - set(PROTOCOL)
        elif (spelled := "R+R'" if name == "R+R" else name) in ARMS:
            wanted.add(spelled)
        else:
            raise UsageError(f"`arms`: no arm is called {name!r}", hint=f"there are: {', '.join(ARMS)}, controls")
    return tuple(name for name in ARMS if name in wanted)
