"""Tables of scores: systems, organs, subjects."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence

from ctsynth.errors import UsageError
from ctsynth.reporting.escape import csv_cell
from ctsynth.reporting.table import NOTHING, Table, best_rows
from ctsynth.scoring.scores import Reference, Result, Scores, Value

REAL = {"floor": "real slices (floor)", "ceiling": "the real CT (ceiling)"}
"""What is compared in the rows that are no system's."""

PHANTOMS = {"floor": "phantom slices (floor)", "ceiling": "the phantoms (ceiling)"}
"""The same where the store is of phantoms."""

MEANING = {
    "floor": "real slices of the other split against those that were scored",
    "ceiling": "the segmenter on the real windowed volumes",
}

EXPECTED = {
    "floor": "no method can be expected below it",
    "ceiling": "no method can be expected to pass it",
}

PASSED = {
    "floor": "slices drawn from these subjects' own masks can be nearer to them than those of other subjects",
    "ceiling": "organs with clearer borders than a CT shows are easier to segment, and not more real",
}
"""Why a score may be better all the same."""


FROM_TISSUES = (
    "Drawn from tissues: the masks say where gas, fat, soft and dense tissue are, which the paper's do not, "
    "so PSNR and SSIM do not compare with the paper's"
)


def number(value: float | None, digits: int) -> str:
    """A number with so many decimal places, never -0; a dash for None."""
    return NOTHING if value is None else f"{value:z.{digits}f}"


def count(n: int, things: str) -> str:
    """So many things, in words: ``1 slice``, ``2 slices``."""
    return f"{n:,} {things.removesuffix('s') if n == 1 else things}"


def between(value: Value, digits: int, subjects: int) -> str:
    """An interval, or why there is none."""
    if value.low is None or value.high is None:
        return "one subject" if subjects == 1 else NOTHING
    return f"{number(value.low, digits)} to {number(value.high, digits)}"


def heading(result: Result) -> str:
    """A metric's title with its unit."""
    return f"{result.title} ({result.total.unit})" if result.total.unit else result.title


def score_table(scores: Mapping[str, Scores]) -> Table:
    """The scores of one system, a metric a row; or of several, a system a row.

    Args:
        scores: By the name of the system.
    """
    if len(scores) == 1:
        return _of_one(next(iter(scores.values())))
    names = list(dict.fromkeys(metric for one in scores.values() for metric in one.metrics))
    columns = {name: [one.metrics.get(name) for one in scores.values()] for name in names}
    headers = [heading(next(result for result in column if result)) for column in columns.values()]
    rows = [
        (system, *(_cell(columns[name][row], one.subjects) for name in names))
        for row, (system, one) in enumerate(scores.items())
    ]
    rows += [
        (title, *(_real(found.get(name), columns[name]) for name in names)) for title, found in _references(scores)
    ]
    rivals = _rivals(list(scores.values()))
    best = {
        (row, place)
        for place, name in enumerate(names, start=1)
        for row in _best([result if row in rivals else None for row, result in enumerate(columns[name])])
    }
    return Table(("system", *headers), tuple(rows), frozenset(best))


def labelled(name: str, *, phantom: bool) -> str:
    """The name, marked where the scores are of phantoms."""
    return f"{name} (phantoms)" if phantom else name


def phantom_caveat(systems: Sequence[str] = ()) -> str:
    """What a reader of scores on phantoms must know; of these systems, or of all."""
    whose = f"the numbers of {', '.join(systems)}" if systems else "these numbers"
    return f"Scored on phantoms, not on CT of patients: {whose} compare to nothing published"


def _rivals(scores: Sequence[Scores]) -> set[int]:
    """The rows that may be called best: of patients, and from masks without tissues, as far as there are any."""
    patients = {row for row, one in enumerate(scores) if not one.phantom}
    return {row for row in patients if not scores[row].from_tissues} or patients or set(range(len(scores)))


def _of_one(scores: Scores) -> Table:
    shown = [(heading(result), result, result.total) for result in scores.metrics.values()]
    shown += [
        (f"{heading(result)}, {kind}", result, values[name])
        for kind, values in (("floor", scores.floor.values or {}), ("ceiling", scores.ceiling.values or {}))
        for name, result in scores.metrics.items()
        if name in values
    ]
    rows = [
        (
            name,
            number(value.value, result.digits),
            between(value, result.digits, scores.subjects),
            count(value.n, result.counted),
        )
        for name, result, value in shown
    ]
    return Table((labelled("metric", phantom=scores.phantom), "value", "95 % interval", "mean over"), tuple(rows))


def remarks(scores: Scores) -> list[str]:
    """What a reader of all the scores must know: whether they are of phantoms, what floor and ceiling are."""
    said = [phantom_caveat()] if scores.phantom else []
    said += [FROM_TISSUES] if scores.from_tissues else []
    for kind, words in MEANING.items():
        reference: Reference = getattr(scores, kind)
        if reference.values:
            better = list(_better(scores.metrics, reference.values))
            found = f"{', '.join(better)}: {PASSED[kind]}" if better else EXPECTED[kind]
            said.append(f"{kind}: {words}; {found}")
    return said


def _better(metrics: Mapping[str, Result], reference: Mapping[str, Value]) -> Iterator[str]:
    """Each score that is better than the real slices or volumes, and both numbers."""
    for name, result in metrics.items():
        score, real = result.total.value, reference[name].value if name in reference else None
        if score is None or real is None or result.higher_is_better is None:
            continue
        score, real = round(score, result.digits), round(real, result.digits)
        if score > real if result.higher_is_better else score < real:
            yield f"{result.title} {number(score, result.digits)} is better than its {number(real, result.digits)}"


def _references(scores: Mapping[str, Scores]) -> list[tuple[str, Mapping[str, Value]]]:
    """Floor and ceiling by metric, each once for all systems that share it, else with the system's name."""
    found: list[tuple[str, Mapping[str, Value]]] = []
    is_phantom = all(one.phantom for one in scores.values())
    for kind, title in (PHANTOMS if is_phantom else REAL).items():
        known = {system: getattr(one, kind).values for system, one in scores.items()}
        apart = [(system, values) for system, values in known.items() if values]
        distinct = [one for n, one in enumerate(apart) if one[1] not in [values for _, values in apart[:n]]]
        is_shared = len(distinct) == 1
        found += [(title if is_shared else f"{title}, {system}", values) for system, values in distinct]
    return found


def _real(value: Value | None, column: Sequence[Result | None]) -> str:
    return number(value.value if value else None, next(result for result in column if result).digits)


def _cell(result: Result | None, subjects: int) -> str:
    if result is None or result.total.value is None:
        return NOTHING
    value = number(result.total.value, result.digits)
    return value if result.total.low is None else f"{value} [{between(result.total, result.digits, subjects)}]"


def _best(column: Sequence[Result | None]) -> list[int]:
    """The rows of a metric's best value."""
    known = [result for result in column if result and result.total.value is not None]
    if not known:
        return []
    values = [result.total.value if result else None for result in column]
    return best_rows(values, known[0].digits, higher_is_better=known[0].higher_is_better)


def organ_table(result: Result, subjects: int) -> Table:
    """A metric's values by organ: what the value is made of, the value, its interval, in how many subjects."""
    parts = list(dict.fromkeys(part for value in result.per_organ.values() for part in value.parts))
    what = "difference" if parts else result.title
    rows = [
        (
            organ.replace("_", " "),
            *(number(value.parts.get(part), result.digits) for part in parts),
            number(value.value, result.digits),
            between(value, result.digits, min(value.n, subjects)),
            str(value.n),
        )
        for organ, value in result.per_organ.items()
    ]
    return Table(("organ", *parts, what, "95 % interval", "subjects"), tuple(rows))


def subject_table(scores: Scores) -> Table:
    """Every subject's scores, for the metrics that have such."""
    columns = {name: result for name, result in scores.metrics.items() if result.per_subject}
    rows = [
        (subject, *(number(result.per_subject.get(subject), result.digits) for result in columns.values()))
        for subject in scores.sources.synthetic
    ]
    return Table(("subject", *map(heading, columns.values())), tuple(rows))


def as_csv(scores: Mapping[str, Scores]) -> str:
    """Every value of the set and of its organs, as precise as it was computed; then floor and ceiling."""
    lines: list[tuple[str, str, str, Value]] = []
    counted: dict[str, str] = {}
    for system, one in scores.items():
        for name, result in one.metrics.items():
            counted[name] = result.counted
            lines += [
                (system, name, organ, value) for organ, value in {"": result.total, **result.per_organ}.items()
            ]
    for title, values in _references(scores):
        lines += [(title, *key.partition("/")[::2], value) for key, value in values.items()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("system", "metric", "organ", "value", "low", "high", "n", "counted", "unit"))
    for system, name, organ, value in lines:
        things = "subjects" if organ else counted.get(name, "")  # a floor may be of a metric that is gone
        system, organ = csv_cell(system), csv_cell(organ)
        writer.writerow((system, name, organ, value.value, value.low, value.high, value.n, things, value.unit))
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Mapping[str, Scores], int | None], str]] = {
    "table": lambda scores, width: score_table(scores).as_text(width),
    "csv": lambda scores, _: as_csv(scores),
    "markdown": lambda scores, _: score_table(scores).as_markdown(),
    "latex": lambda scores, _: score_table(scores).as_latex(),
}


def render(scores: Mapping[str, Scores], form: str, width: int | None = None) -> str:
    """The score table as ``table``, ``csv``, ``markdown`` or ``latex``, without a line end.

    Args:
        scores: By the name of the system.
        form: Which of them.
        width: Characters of a line of text, at most; None for any number.

    Raises:
        UsageError: There is no such format.
    """
    if form not in FORMATS:
        raise UsageError(f"no format is called {form!r}", hint=f"there are: {', '.join(FORMATS)}")
    return FORMATS[form](scores, width)
