"""Mutated files for all that reads files: ``python -m tests.fuzz --count 100000`` from the repository's root."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from random import Random

from .attempts import BYTES, SECONDS, Attempt, target_of
from .targets import TARGETS
from .worker import attempts


def main() -> int:
    """Makes the attempts and tells of them; 1 if one went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="how many files to mutate")
    parser.add_argument("--seed", type=int, default=0, help="with the index it decides a mutation")
    parser.add_argument("--first", type=int, default=0, help="index of the first")
    parser.add_argument("--only", nargs="+", metavar="TARGET", choices=TARGETS, help=f"of {', '.join(TARGETS)}")
    asked = parser.parse_args()
    indices = [
        index
        for index in range(asked.first, asked.first + asked.count)
        if not asked.only or target_of(Random(f"{asked.seed}/{index}")) in asked.only
    ]
    made = []
    for one in attempts(asked.seed, indices):
        made.append(one)
        if not one.is_good:
            print(f"{one.index}: {one.target}, {one.file}: {one.outcome}\n{one.detail}\n", flush=True)
        elif asked.count == 1:
            print(f"{one.outcome}: {one.detail}")
        if len(made) % 1000 == 0:
            print(f"{len(made)} of {len(indices)}", file=sys.stderr, flush=True)
    print(summary(made))
    return int(any(not one.is_good for one in made))


def summary(made: list[Attempt]) -> str:
    """Counts by target and outcome, the slowest, the most memory, and what went wrong."""
    counts: dict[str, Counter[str]] = {}
    for one in made:
        counts.setdefault(one.target, Counter())[one.outcome] += 1
    seconds: Counter[str] = Counter()
    for one in made:
        seconds[one.target] += one.seconds
    lines = []
    for target, outcomes in sorted(counts.items()):
        each = 1000 * seconds[target] / outcomes.total()
        lines.append(f"{target or '?':<34}{outcomes.total():>7}{each:>7.0f} ms  {dict(outcomes.most_common())}")
    total = Counter(one.outcome for one in made)
    slowest, largest = max(made, key=lambda one: one.seconds), max(made, key=lambda one: one.peak)
    lines += [
        f"{'all':<34}{len(made):>7}  {dict(total.most_common())}",
        f"CPU time {sum(one.seconds for one in made):.0f} s; slowest {slowest.seconds:.2f} s of {SECONDS:g}:"
        f" {slowest.target}, index {slowest.index}",
        f"peak memory {largest.peak / 2**20:.0f} MiB of {BYTES / 2**20:.0f}: {largest.target},"
        f" index {largest.index}",
    ]
    alike: dict[str, list[str]] = {}
    for one in made:
        if not one.is_good:
            alike.setdefault(_sign(one), []).append(str(one.index))
    lines += [f"{sign}: {len(found)}: {' '.join(found[:8])}" for sign, found in sorted(alike.items())]
    bad = [str(one.index) for one in made if not one.is_good]
    return "\n".join([*lines, f"went wrong: {len(bad)}{': ' + ' '.join(bad) if bad else ''}"])


def _sign(one: Attempt) -> str:
    """What went wrong, in a line that equal errors share: the last place in ctsynth, and the error."""
    places = re.findall(r'ctsynth/([\w/]+\.py)", line (\d+)', one.detail)
    last = one.detail.strip().splitlines()[-1:] or [""]
    return f"{one.outcome} {':'.join(places[-1]) if places else one.target} {last[0][:80]}"


if __name__ == "__main__":
    sys.exit(main())
