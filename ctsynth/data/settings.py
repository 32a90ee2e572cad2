"""How a slice store is made: the options of ``ctsynth preprocess``, without numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ctsynth.errors import UsageError
from ctsynth.files import sha256
from ctsynth.labels import AMOS22, LabelSet
from ctsynth.schema import Help, Range, check

if TYPE_CHECKING:
    from ctsynth.data.window import Window

Unmatched = Literal["body", "background"]
"""What voxels become whose class the label set does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """Which subjects are train, and which test. The file goes first, then the fraction, then the layout's way."""

    test_subjects: Annotated[int, Range(0), Help("The first N CT of imagesVa, by id, are test.")] = 50
    """The paper's (Sec. 3)."""

    split: Annotated[Path | None, Help('JSON: {"train": ["name", ...], "test": [...]}.')] = None

    test_fraction: Annotated[
        Annotated[float, Range(0, 1)] | None, Help("Choose this share of all subjects at random for test.")
    ] = None

    seed: Annotated[int, Range(0, 2**63 - 1), Help("For --test-fraction.")] = 0

    def __post_init__(self) -> None:
        check(self)
        if self.split is not None and self.test_fraction is not None:
            raise UsageError("`split` and `test_fraction` exclude each other", hint="give one of them")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a store is made; the defaults are the paper's (Sec. 3)."""

    size: Annotated[int, Range(8, 4096), Help("Side of the slices, pixels.")] = 256

    level: Annotated[float, Help("Middle of the CT window, HU.")] = 40

    width: Annotated[float, Help("Width of the CT window, HU.")] = 400

    labels: LabelSet = AMOS22
    """What the label volumes hold."""

    rule: SplitRule = field(default_factory=SplitRule)

    image_folder: Path | None = None
    """Folder of images where the source is neither AMOS22 nor nnU-Net raw; with ``label_folder``."""

    label_folder: Path | None = None
    """Folder of the label volumes of the same names."""

    unmatched: Annotated[
        Unmatched | None,
        Help(
            "Replacement for classes that the label set does not have.", "body; an error from 0.1 % of the patient"
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)
        _ = self.window

    @property
    def window(self) -> Window:
        """The range of HU that is kept."""
        from ctsynth.data.window import Window

        return Window(self.level, self.width)

    def as_json(self) -> dict[str, Any]:
        """What the store remembers: all that decides what is in it."""
        rule = self.rule
        if rule.split is not None:
            split: dict[str, Any] = {"file_sha256": sha256(rule.split)}
        elif rule.test_fraction is not None:
            split = {"test_fraction": rule.test_fraction, "seed": rule.seed}
        else:
            split = {"test_subjects": rule.test_subjects}
        window = {"level": float(self.level), "width": float(self.width)}
        unmatched = {"unmatched": self.unmatched} if self.unmatched == "background" else {}  # few voxels are body
        return {"size": self.size, **window, "labels": self.labels.as_json(), **unmatched, "split": split}
