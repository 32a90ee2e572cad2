"""A data set of synthetic subjects in AMOS22's own layout: what is there is kept, what is missing is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.workers import outcomes
from ctsynth.errors import UsageError
from ctsynth.files import sha256, write_json
from ctsynth.labels import AMOS22
from ctsynth.phantom.case import FIRST_TEST_ID, NAME, VERSION, PhantomCase
from ctsynth.phantom.kept import missing
from ctsynth.phantom.subject import make_subject

_LAST_ID = 499


@dataclass(frozen=True, slots=True)
class PhantomData:
    """A data set that was made.

    Args:
        training: CT files of the training subjects.
        validation: CT files of the test subjects.
        skipped: How many of both were there already.
    """

    training: tuple[Path, ...]
    validation: tuple[Path, ...]
    skipped: int


def make_phantom(
    out: Path,
    *,
    subjects: int = 12,
    test_subjects: int = 2,
    size: int = 256,
    slices: int | Sequence[int] = 24,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[..., None] = lambda done, note="": None,
) -> PhantomData:
    """Writes a data set: dataset.json, imagesTr, labelsTr, imagesVa and labelsVa, as AMOS22 has them.

    A subject whose files are whole and were made with the same settings is skipped.

    Args:
        out: The data set's folder.
        subjects: For training.
        test_subjects: In AMOS22's validation folders, which are the test split.
        size: Side of the slices, voxels of 384 mm / size.
        slices: Slices a subject, 360 mm / slices apart; of several numbers each subject has the next in turn.
        seed: Same seed, same bytes.
        workers: Processes.
        overwrite: Make everything again, and replace what was made with other settings.
        progress: Called with the number of subjects done and the name of the latest.

    Raises:
        UsageError: A number is out of range, or there are phantoms of other settings, or more of them.
        DataError: The folder holds cases that are no phantoms.
        RunError: A file cannot be written.
    """
    in_turn = [slices] if isinstance(slices, int) else list(slices)
    _check(subjects, test_subjects, size, in_turn, seed)
    numbers = [*range(1, subjects + 1), *range(FIRST_TEST_ID, FIRST_TEST_ID + test_subjects)]
    cases = [PhantomCase(out, number, seed, size, in_turn[(number - 1) % len(in_turn)]) for number in numbers]
    to_make = missing(out, cases, overwrite=overwrite)
    skipped = len(cases) - len(to_make)
    progress(skipped)
    with closing(outcomes(_write, to_make, workers)) as finished:
        for done, (case, _) in enumerate(finished, start=skipped + 1):
            progress(done, case.name)
    _write_index(out, cases)
    training = tuple(case.image for case in cases if case.number < FIRST_TEST_ID)
    return PhantomData(training, tuple(case.image for case in cases[subjects:]), skipped)


def _check(subjects: int, test_subjects: int, size: int, slices: Sequence[int], seed: int) -> None:
    ranges = (
        ("subjects", subjects, 1, FIRST_TEST_ID - 1),
        ("test_subjects", test_subjects, 0, _LAST_ID + 1 - FIRST_TEST_ID),
        ("size", size, 32, 1024),
        *(("slices", number, 1, 720) for number in slices),
        ("seed", seed, 0, 2**63 - 1),
    )
    for name, value, lowest, highest in ranges:
        if not lowest <= value <= highest:
            raise UsageError(f"`{name}` is {value}, wanted {lowest} to {highest}")


def _write(case: PhantomCase) -> None:
    subject = make_subject(case.seed, case.number, size=case.size, slices=case.slices)
    geometry = Geometry(subject.hu.shape, subject.affine)
    Volume(subject.labels, geometry).save(case.label, description=case.description)
    Volume(subject.hu, geometry).save(case.image, description=case.description)


def _write_index(out: Path, cases: list[PhantomCase]) -> None:
    """Writes dataset.json in AMOS22's form, with AMOS22's own spellings."""

    def entries(test: bool) -> list[dict[str, str]]:
        here = [replace(case, out=Path()) for case in cases if (case.number >= FIRST_TEST_ID) == test]
        return [{"image": f"./{case.image.as_posix()}", "label": f"./{case.label.as_posix()}"} for case in here]

    training, validation = entries(test=False), entries(test=True)
    names = {str(organ.id): (*organ.aliases, organ.name)[0] for organ in AMOS22.classes}
    content = {
        "name": NAME,
        "phantom": True,
        "description": "SYNTHETIC PHANTOM DATA, not patients: for demos, tests and benchmarks",
        "reference": f"ctsynth phantom, version {VERSION}, seed {cases[0].seed}",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **names},
        "numTraining": len(training),
        "numValidation": len(validation),
        "numTest": 0,
        "training": training,
        "validation": validation,
        "test": [],
        "sha256": {
            path.relative_to(out).as_posix(): sha256(path) for case in cases for path in (case.image, case.label)
        },
    }
    write_json(out / "dataset.json", content)
