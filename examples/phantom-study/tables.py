"""Writes the tables of docs/results.md from the scores of a phantom study, so that no number is typed by hand.

    python examples/phantom-study/tables.py study/report/scores.csv docs/results.md

A table of the page stands between <!-- table: NAME --> and <!-- end -->. The rows of scores.csv that the tables
take are kept beside the page, in results.csv, which may be read in its place.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from scipy.stats import spearmanr

from ctsynth.reporting.paper import load

GANS = ("pix2pix", "spade", "oasis")
DDPMS = ("ddpm-concat", "ddpm-mask", "ddpm-edge")
PAPERS = (*GANS, "sdm", *DDPMS)
SYSTEMS = (*PAPERS, "edm", "edm-volume")
SMALL = ("gallbladder", "esophagus", "adrenal_gland_right", "adrenal_gland_left", "duodenum")
FLOOR, CEILING = "floor", "ceiling"

METRICS = {
    "frechet": ("Fréchet distance", 0), "psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 3), "dice": ("DSC, %", 1),
    "hu": ("organ HU error", 1), "gradient": ("gradient ratio", 2), "z-gradient": ("z-gradient", 2),
    "z-correlation": ("z-correlation error", 3), "z-flicker": ("z-flicker, dB", 1), "coverage": ("coverage", 3),
    "copies": ("copies, %", 1),
}  # fmt: skip
"""Heading and decimal places."""

Scores = dict[tuple[str, int, str, str], tuple[float | None, float | None, float | None]]
"""Value and interval by system, iterations, metric and organ ("" for all)."""


def main() -> None:
    """Rewrites the tables of the page and the rows beside it."""
    source, page = Path(sys.argv[1]), Path(sys.argv[2])
    with source.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] in METRICS and _is_used(row)]
    with page.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("system", "metric", "organ", "value", "low", "high"))
        writer.writerows(
            (row["system"], row["metric"], row["organ"], *(_rounded(row[key]) for key in ("value", "low", "high")))
            for row in rows
        )
    text = page.read_text(encoding="utf-8")
    scores = read(page.with_suffix(".csv"))
    for name, table in TABLES.items():
        text = re.sub(
            rf"(<!-- table: {name} -->\n).*?(<!-- end -->)",
            lambda found, table=table: f"{found[1]}{table(scores)}{found[2]}",
            text,
            flags=re.DOTALL,
        )
    page.write_text(text, encoding="utf-8")


def read(source: Path) -> Scores:
    """The scores of a study, from the file beside the page."""
    scores: Scores = {}
    with source.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            system, steps = _system(row["system"])
            values = tuple(float(row[key]) if row[key] else None for key in ("value", "low", "high"))
            scores[system, steps, row["metric"], row["organ"]] = values
    return scores


def _system(name: str) -> tuple[str, int]:
    if found := re.fullmatch(r"(\S+) \(phantoms\), ([\d,]+) iterations", name):
        return found[1], int(found[2].replace(",", ""))
    return (FLOOR if "floor" in name else CEILING), 0


def _is_used(row: dict[str, str]) -> bool:
    return not row["organ"] or row["metric"] == "dice"


def _rounded(number: str) -> str:
    return f"{float(number):.5g}" if number else ""


def steps_of(scores: Scores) -> list[int]:
    """The checkpoints, in iterations."""
    return sorted({steps for _, steps, _, _ in scores if steps})


def last(scores: Scores, metrics: Sequence[str], others: Sequence[str]) -> str:
    """The scores of the last checkpoint, with their intervals."""
    end = steps_of(scores)[-1]
    rows = [[system, *(_cell(scores, (system, end, one, ""), one) for one in metrics)] for system in SYSTEMS]
    for other in others:
        title = {FLOOR: "floor: the phantoms to learn from", CEILING: "ceiling: the phantoms themselves"}[other]
        rows.append([title, *(_cell(scores, (other, 0, one, ""), one) for one in metrics)])
    return _markdown(["", *(METRICS[one][0] for one in metrics)], rows)


def checkpoints(scores: Scores, metric: str) -> str:
    """A score by iterations."""
    steps = steps_of(scores)
    rows = [
        [system, *(_cell(scores, (system, step, metric, ""), metric, interval=False) for step in steps)]
        for system in SYSTEMS
    ]
    return _markdown([f"{METRICS[metric][0]}, after iterations", *map(str, steps)], rows)


def organs(scores: Scores) -> str:
    """Dice of the organs of the paper's Table 2 at the last checkpoint; bold: the best of the paper's methods."""
    end = steps_of(scores)[-1]
    names = [one for one in load().columns if (PAPERS[0], end, "dice", one) in scores]
    best = {organ: _leader({one: scores[one, end, "dice", organ][0] for one in PAPERS}) for organ in names}
    rows = []
    for system in SYSTEMS:
        cells = {organ: _cell(scores, (system, end, "dice", organ), "dice", interval=False) for organ in names}
        rows.append([system, *(f"**{cell}**" if best[one] == system else cell for one, cell in cells.items())])
    keys = [(CEILING, 0, "dice", organ) for organ in names]
    rows.append(["ceiling", *(_cell(scores, key, "dice", interval=False) for key in keys)])
    return _markdown(["DSC, %", *(name.replace("_", " ") for name in names)], rows)


def findings(scores: Scores) -> str:
    """The paper's findings, in its numbers and in those of the study."""
    *_, end = steps = steps_of(scores)
    final = {row.method: row.values for row in load().tables[2]}
    at_50k = {row.method: row.values for row in load().tables[1] if row.iterations == 50_000}

    def here(metric: str, systems: Iterable[str], step: int = end) -> str:
        cells = [f"{one} {_cell(scores, (one, step, metric, ''), metric, interval=False)}" for one in systems]
        return ", ".join(cells)

    def printed(metric: str, systems: Iterable[str], rows: Mapping[str, Mapping[str, str]] = final) -> str:
        key = "fid" if metric == "frechet" else metric
        return ", ".join(f"{one} {rows[one][key]}" for one in systems if key in rows[one])

    what = "diffusion under GANs: the paper's FID, the segmenter's Fréchet distance"
    rows = [[what, printed("frechet", PAPERS), here("frechet", PAPERS)], *_small_organs(scores, final)]
    for metric in ("frechet", "psnr", "ssim", "dice"):
        ours = "; ".join(f"{step}: {here(metric, DDPMS, step)}" for step in steps[:2])
        theirs = printed(metric, DDPMS, at_50k)
        rows.append([f"mask-guided ahead early: {METRICS[metric][0]}", theirs and f"50k: {theirs}", ours])
    rows += [
        [f"edges do not help: {METRICS[one][0]}", printed(one, DDPMS), here(one, DDPMS)]
        for one in ("frechet", "psnr", "ssim", "dice")
    ]
    return _markdown(["finding", "paper", "phantoms"], [*rows, *_orders(scores, final)])


def _small_organs(scores: Scores, final: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """Whether OASIS is best on small organs: the mean Dice, and how often each method is best."""
    end = steps_of(scores)[-1]
    theirs = {one: {organ: float(final[one][organ]) for organ in SMALL} for one in PAPERS}
    ours = {one: {organ: scores[one, end, "dice", organ][0] or 0.0 for organ in SMALL} for one in PAPERS}

    def means(dice: Mapping[str, Mapping[str, float]]) -> str:
        return ", ".join(f"{one} {sum(values.values()) / len(SMALL):.1f}" for one, values in dice.items())

    def winners(dice: Mapping[str, Mapping[str, float]]) -> str:
        counts = Counter(_leader({one: dice[one][organ] for one in PAPERS}) for organ in SMALL)
        return ", ".join(f"{name} {count}" for name, count in counts.most_common())

    names = ", ".join(SMALL).replace("_", " ")
    return [
        [f"OASIS best on small organs: mean DSC of {names}", means(theirs), means(ours)],
        ["how many of these five a method is best on", winners(theirs), winners(ours)],
    ]


def _orders(scores: Scores, final: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """The paper's methods from best to worst, and how the two orders agree."""
    rows, end = [], steps_of(scores)[-1]
    for metric in ("psnr", "ssim"):
        theirs = {one: float(final[one][metric]) for one in PAPERS}
        ours = {one: scores[one, end, metric, ""][0] or 0.0 for one in PAPERS}
        rho = spearmanr(list(theirs.values()), list(ours.values())).statistic
        orders = [" > ".join(sorted(values, key=lambda one: -values[one])) for values in (theirs, ours)]
        rows.append([f"order by {METRICS[metric][0]} (rank correlation {rho:.2f})", *orders])
    return rows


def _leader(values: Mapping[str, float | None]) -> str:
    return max(values, key=lambda one: -1.0 if values[one] is None else values[one] or 0.0)


def _cell(scores: Scores, key: tuple[str, int, str, str], metric: str, *, interval: bool = True) -> str:
    value, low, high = scores.get(key, (None, None, None))
    if value is None:
        return "-"
    digits = METRICS[metric][1]
    between = f" ({low:.{digits}f} to {high:.{digits}f})" if interval and low is not None else ""
    return f"{value:.{digits}f}{between}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES: dict[str, Callable[[Scores], str]] = {
    "last": lambda scores: last(scores, ("frechet", "psnr", "ssim", "dice", "hu", "gradient"), (FLOOR, CEILING)),
    "along z": lambda scores: last(
        scores, ("z-gradient", "z-correlation", "z-flicker", "coverage", "copies"), (FLOOR,)
    ),
    "frechet": lambda scores: checkpoints(scores, "frechet"),
    "psnr": lambda scores: checkpoints(scores, "psnr"),
    "ssim": lambda scores: checkpoints(scores, "ssim"),
    "dice": lambda scores: checkpoints(scores, "dice"),
    "organs": organs,
    "findings": findings,
}

if __name__ == "__main__":
    main()
