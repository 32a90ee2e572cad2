"""The result of making a slice store."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctsynth.data.layouts import Layout
from ctsynth.data.masks import format_stray, listed
from ctsynth.errors import CTSynthError, RunError
from ctsynth.labels import LabelSet

PAPER_SLICES = {"train": 26_069, "test": 6_559}
"""The paper's slices (Sec. 3): of 200 and 50 AMOS22 CT."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did and what the store now holds.

    Args:
        layout: What was found in the source.
        labels: The store's label set.
        records: Every subject in the manifest, whichever run or shard made it.
        made: Subjects that this run made.
        kept: Subjects that were whole and up to date.
        broken: What is wrong with each subject that could not be made, by its name.
    """

    layout: Layout
    labels: LabelSet
    records: list[dict[str, Any]]
    made: int
    kept: int
    broken: dict[str, CTSynthError]

    def subjects(self, split: str) -> int:
        """Subjects of a split in the store."""
        return sum(record["split"] == split for record in self.records)

    def slices(self, split: str) -> int:
        """Slices of a split in the store."""
        return sum(int(record["slices"]) for record in self.records if record["split"] == split)

    def voxels(self, split: str) -> dict[int, int]:
        """The voxels of each class in the masks of a split, by id."""
        counts: Counter[str] = Counter()
        for record in self.records:
            if record["split"] == split:
                counts.update(record["voxels"])
        return {number: counts[str(number)] for number in self.labels.names}

    def absent(self) -> list[str]:
        """The classes of the label set that no mask shows; a body that is split into tissues is not missing."""
        train, test = self.voxels("train"), self.voxels("test")
        split = {self.labels.body_id} if self.labels.tissues else set()
        wanted = ((number, name) for number, name in self.labels.names.items() if number not in split)
        return [name for number, name in wanted if not train[number] + test[number]]

    @property
    def test_names(self) -> list[str]:
        """The subjects of test."""
        return [record["name"] for record in self.records if record["split"] == "test"]

    @property
    def test_digest(self) -> str:
        """What two people compare to see whether they test on the same subjects."""
        return hashlib.sha256("\n".join(self.test_names).encode()).hexdigest()[:16]

    def as_json(self, out: Path) -> dict[str, Any]:
        """What ``ctsynth preprocess --json`` prints of the store in ``out``."""
        splits = {
            split: {"subjects": self.subjects(split), "slices": self.slices(split), "paper_slices": paper}
            for split, paper in PAPER_SLICES.items()
        }
        return {
            "store": str(out),
            "layout": self.layout.name,
            "splits": splits,
            "labels": self.labels.name,
            "voxels": {
                name: {split: self.voxels(split)[number] for split in PAPER_SLICES}
                for number, name in self.labels.names.items()
            },
            "unmatched": self.unmatched(),
            "test_subjects": self.test_names,
            "test_subjects_sha256": self.test_digest,
            "made": self.made,
            "kept": self.kept,
            "skipped_mr": self.layout.skipped_mr,
            "left_out": self.layout.left_out,
            "broken": {name: error.message for name, error in self.broken.items()},
        }

    def unmatched(self) -> dict[str, int]:
        """The voxels, in the label volumes, of each class that the label set does not have, by name."""
        counts: Counter[str] = Counter()
        for record in self.records:
            counts.update(record.get("unmatched", {}))
        return dict(counts.most_common())

    def warn(self, unmatched: str) -> None:
        """Says that nobody is test, and what of the label volumes is not in the masks as it was.

        Args:
            unmatched: What became of classes that the label set does not have.
        """
        if not any(case.split == "test" for case in self.layout.cases):
            log.warning(
                "no test subjects: sample `data` and score need some; `test_fraction` 0.2, say, or `split` FILE"
                " chooses them"
            )
        if lost := self.unmatched():
            subjects = sum("unmatched" in record for record in self.records)
            what = listed(lost)
            log.warning(
                "%s has no class for %s, of %d subjects: now %s", self.labels.name, what, subjects, unmatched
            )
        if stray := {record["name"]: record["stray_body"] for record in self.records if "stray_body" in record}:
            log.warning("%s", format_stray(self.labels, stray, "the body was found in the CT"))


class BrokenSubjectsError(RunError):
    """The run finished, but some subjects could not be made.

    Args:
        summary: The run's summary.
    """

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        errors = list(summary.broken.values())
        message = f"{len(errors)} of {len(summary.layout.cases)} subjects could not be made:"
        message += "".join(f"\n  {error.message}" for error in errors)
        hint = "mend or remove them, then run the same command again: finished work is kept"
        super().__init__(
            message, hint=f"{errors[0].hint}; {hint}" if len(errors) == 1 and errors[0].hint else hint
        )
